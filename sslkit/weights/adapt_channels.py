"""Weights for images of 3 channels in an encoder of other channels: timm's convention."""

from collections.abc import Mapping

from timm.models import adapt_input_conv
from torch import Tensor

from sslkit.encoder.encoder import Encoder
from sslkit.errors import SslkitError

RGB = 3


def adapt_channels(name: str, source: Mapping[str, Tensor], encoder: Encoder) -> tuple[dict[str, Tensor], list[str]]:
    """A state dict whose first convolution takes the encoder's channels, and remarks.

    Of RGB weights, one channel takes the sum over the three, so that a gray image gives what it gave as RGB; C channels
    take the three in turn, scaled by 3 / C.

    Args:
        name: of the file, for messages.
        source: a state dict with timm's names.
        encoder: to be filled.

    Raises:
        SslkitError: the weights are for another number of channels than 3 and the encoder's.
    """
    first = "patch_embed.proj" if encoder.vit else encoder.model.pretrained_cfg.get("first_conv")
    key = f"{first}.weight"
    weight = source.get(key)
    have, wanted = 0 if weight is None or weight.ndim != 4 else weight.shape[1], encoder.spec.in_channels
    if weight is None or have in (0, wanted):
        return dict(source), []
    if have != RGB:
        raise SslkitError(
            f"{name} takes images of {have} channels, the encoder {wanted}: --set encoder.channels={have} in pretrain, "
            f"or data of {have} channels"
        )
    how = "their sum" if wanted == 1 else "the three in turn"
    remark = f"{key} of 3 channels adapted to {wanted} by timm's convention: {how}"
    return {**source, key: adapt_input_conv(wanted, weight)}, [remark]
