"""Which layers of a ViT are fine-tuned, and how fast: layer-wise decay of the learning rate, and frozen blocks.

Layer-wise decay (arXiv:2106.08254, appendix; arXiv:2111.06377, table 9) lets early layers, which are general, move
less than late ones. With L blocks and decay d:

    embeddings d^(L+1),   block i = 0 ... L-1  d^(L-i),   final norm and head 1
"""

from torch import nn

from sslkit.encoder.encoder import Encoder
from sslkit.errors import UsageError

LAST = ("norm.", "fc_norm.", "attn_pool.", "head.", "head_drop.")  # of timm's ViT: what follows the blocks


def layer_of(name: str, depth: int) -> int:
    """The layer of a parameter of timm's ViT: 0 for embeddings, 1 ... L for blocks, L + 1 for what follows them.

    Args:
        name: of the parameter, such as ``blocks.0.attn.qkv.weight``.
        depth: L.
    """
    if name.startswith("blocks."):
        return int(name.split(".")[1]) + 1
    return depth + 1 if name.startswith(LAST) else 0


def factors(encoder: Encoder, decay: float) -> dict[nn.Parameter, float]:
    """What each parameter's learning rate is multiplied by; empty, one rate for all, for a model that is no ViT."""
    if not encoder.vit:
        return {}
    last = encoder.depth + 1
    return {p: decay ** (last - layer_of(name, encoder.depth)) for name, p in encoder.model.named_parameters()}


def freeze_below(encoder: Encoder, blocks: int) -> None:
    """Leave only the last blocks and the norm to be trained; nothing at all for 0 (partial fine-tuning, 2111.06377).

    A frozen block drops no path: noise is for what learns.

    Args:
        encoder: changed in place.
        blocks: how many are trained.

    Raises:
        UsageError: more than there are, or a model that has none.
    """
    if not encoder.vit:
        raise UsageError(f"--unfreeze counts blocks of a ViT, and {encoder.spec.arch} is none: leave it out")
    if not 0 <= blocks <= encoder.depth:
        raise UsageError(f"--unfreeze {blocks}: {encoder.spec.arch} has {encoder.depth} blocks here")
    first = encoder.depth - blocks + 1 if blocks else encoder.depth + 2
    for name, parameter in encoder.model.named_parameters():
        parameter.requires_grad_(layer_of(name, encoder.depth) >= first)
    for index in range(min(2 * (first - 1), len(encoder.drop_rates))):
        encoder.drop_rates[index] = 0.0
