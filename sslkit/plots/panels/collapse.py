"""The two panels that show collapse (arXiv:2104.14294, figure 7), and those that show its kind.

KL -> 0 is collapse: with h -> 0 onto one prototype, with h -> ln K onto uniform targets.
"""

from sslkit.plots.panels.base import Panel

SECTION = "Targets and collapse"
LOG_K = {"ln K": "ln_k"}
PANELS = [
    Panel(
        "teacher_entropy",
        "teacher entropy h (nats)",
        "Entropy of the teacher",
        "To 0: one prototype for all images. To ln K: uniform targets.",
        SECTION,
        20,
        LOG_K,
    ),
    Panel(
        "kl",
        "KL(teacher || student) (nats)",
        "KL divergence, teacher to student",
        "To 0: the targets carry no information any more.",
        SECTION,
        21,
    ),
    Panel(
        "marginal_entropy",
        "entropy of the mean target (nats)",
        "Entropy of the mean target",
        "Low: few prototypes serve all images.",
        SECTION,
        22,
        LOG_K,
    ),
    Panel("prototypes_in_use", "prototypes in use (count)", "Prototypes in use", section=SECTION, order=23),
    Panel("center_norm", "norm of the centre (L2)", "Norm of the centre", section=SECTION, order=26),
]
