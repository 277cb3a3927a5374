"""Layer-wise decay of the learning rate, and frozen blocks: which layers of a ViT are fine-tuned, and how fast.

Layer-wise decay (arXiv:2106.08254, appendix; arXiv:2111.06377, table 9) gives early layers, which are general, a
lower learning rate than late ones. With L blocks and decay d:

    embeddings d^(L+1),   block i = 0 ... L-1  d^(L-i),   final norm and head 1
"""

from torch import nn

from sslkit.encoder.encoder import AFTER, Encoder
from sslkit.errors import UsageError


def layer_of(name: str, depth: int) -> int:
    """The layer of a parameter of timm's ViT: 0 for embeddings, 1 ... L for blocks, L + 1 for what follows them."""
    if name.startswith("blocks."):
        return int(name.split(".")[1]) + 1
    return depth + 1 if name.startswith(AFTER) else 0


def factors(encoder: Encoder, decay: float) -> dict[nn.Parameter, float]:
    """The factor of each parameter's learning rate; empty (one rate for all) for a model that is not a ViT."""
    if not encoder.vit:
        return {}
    last = encoder.depth + 1
    return {p: decay ** (last - layer_of(name, encoder.depth)) for name, p in encoder.model.named_parameters()}


def freeze_below(encoder: Encoder, blocks: int) -> None:
    """Freeze all but the last blocks and the final norm; freeze everything for 0 (partial fine-tuning, 2111.06377).

    A frozen block drops no path: the noise would regularise nothing.

    Raises:
        UsageError: the model has fewer blocks, or is not a ViT.
    """
    if not encoder.vit:
        raise UsageError(f"--unfreeze counts ViT blocks, but {encoder.spec.arch} is not a ViT: leave it out")
    if not 0 <= blocks <= encoder.depth:
        raise UsageError(f"--unfreeze {blocks}: {encoder.spec.arch} has only {encoder.depth} blocks here")
    first = encoder.depth - blocks + 1 if blocks else encoder.depth + 2
    for name, parameter in encoder.model.named_parameters():
        parameter.requires_grad_(layer_of(name, encoder.depth) >= first)
    for index in range(min(2 * (first - 1), len(encoder.drop_rates))):
        encoder.drop_rates[index] = 0.0
