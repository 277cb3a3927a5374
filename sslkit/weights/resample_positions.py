"""Position resampling of an imported checkpoint, and of its patch embedding."""

from collections.abc import Mapping

from timm.models.vision_transformer import checkpoint_filter_fn
from torch import Tensor

from sslkit.encoder.encoder import Encoder
from sslkit.errors import SslkitError


def resample_positions(
    name: str, source: Mapping[str, Tensor], encoder: Encoder
) -> tuple[Mapping[str, Tensor], list[str]]:
    """Tensors resampled to an encoder's grid and patch size by timm's own filter, and remarks, since it says nothing.

    Args:
        name: of the file, for errors.
        source: the checkpoint's tensors under timm's names.
        encoder: a ViT.

    Raises:
        SslkitError: positions that are no square grid.
    """
    remarks = []
    patch, tokens = source.get("patch_embed.proj.weight"), source.get("pos_embed")
    if patch is not None and patch.ndim == 4 and patch.shape[-1] != encoder.patch_size:
        remarks.append(f"patch embedding resampled from {patch.shape[-1]} to {encoder.patch_size} px by timm")
    here = encoder.model.pos_embed
    if tokens is not None and here is not None and tokens.ndim == 3:
        prefix = 0 if encoder.model.no_embed_class else encoder.prefix
        old, new = (round((table.shape[1] - prefix) ** 0.5) for table in (tokens, here))
        if old < 1 or (old**2 != tokens.shape[1] - prefix and tokens.shape != here.shape):
            raise SslkitError(
                f"{name} has positions of {tokens.shape[1]} tokens, {prefix} of them CLS or registers: the rest is no "
                f"square grid and cannot be resampled to {new}x{new}; name its --arch"
            )
        if old != new:
            remarks.append(f"positions resampled from {old}x{old} to {new}x{new} by timm (bicubic, antialias)")
    return checkpoint_filter_fn(dict(source), encoder.model), remarks
