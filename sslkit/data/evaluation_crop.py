"""The crop of an image that evaluation sees: one rule for ``extract``, the monitor and everything that draws."""

from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as TF

CROP_RATIO = 0.875  # 224 out of 256, the papers' evaluation crop
SMALLEST_CROPPED = 128  # pixels; smaller images are kept whole: too little would remain


def evaluation_crop(image: Tensor, size: int) -> Tensor:
    """Resize the shorter side (bicubic, antialiased) and cut out the centre, as torchvision's transforms do.

    The shorter side becomes ``size / 0.875`` from 128 pixels on, and ``size`` below.

    Args:
        image: (C, H, W) uint8.
        size: S, pixels.

    Returns:
        (C, S, S) uint8.
    """
    shorter = round(size / CROP_RATIO) if size >= SMALLEST_CROPPED else size
    if min(image.shape[-2:]) != shorter:
        image = TF.resize(image, [shorter], interpolation=InterpolationMode.BICUBIC, antialias=True)
    top, left = (round((side - size) / 2) for side in image.shape[-2:])
    return image[:, top : top + size, left : left + size]
