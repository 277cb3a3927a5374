"""How the features spread over their space."""

from sslkit.plots.panels.base import Panel

SECTION = "Targets and collapse"
PANELS = [
    Panel(
        "feature_std",
        "std of normalised features, times sqrt(D)",
        "Spread of features",
        "1: spread evenly over all directions. To 0: collapse.",
        SECTION,
        24,
    ),
    Panel(
        "effective_rank",
        "effective rank (dimensions)",
        "Effective rank",
        "Dimensions that the features fill.",
        SECTION,
        25,
    ),
]
