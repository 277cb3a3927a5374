"""How image files become pixels: how many channels, which values are black and white, and how large a file may be."""

from dataclasses import dataclass

from sslkit.errors import SslkitError

RGB = 3
MAX_PIXELS = 178_956_970  # where Pillow refuses too (twice its Image.MAX_IMAGE_PIXELS): 0.5 GB of RGB
STANDARD = (1, 3, 4)  # channels as which an ordinary image can be read: gray, RGB, RGB with alpha


@dataclass(frozen=True)
class PixelRules:
    """What a reader of image files is asked for.

    Attributes:
        channels: C of what it returns.
        span: the values that become 0 and 255, for files of more than 8 bits; None: all 16 bits.
        max_pixels: width x height above which a file is refused before it is decoded; None reads any.
    """

    channels: int = RGB
    span: tuple[float, float] | None = None
    max_pixels: int | None = MAX_PIXELS

    def check_size(self, width: int, height: int) -> None:
        """Refuse an image that is too large.

        Raises:
            SslkitError: it is; the message names the option that reads it.
        """
        if self.max_pixels is not None and width * height > self.max_pixels:
            raise SslkitError(f"too large: {width} x {height} pixels; --max-pixels {width * height} reads it")


DEFAULT = PixelRules()


def check_channels(have: int, channels: int) -> None:
    """Refuse an image that has other channels and is not an ordinary one.

    Raises:
        SslkitError: it is such an image.
    """
    if have != channels and not (have in (1, RGB) and channels in STANDARD):
        raise SslkitError(f"has {counted(have)}, not {channels}")


def counted(channels: int) -> str:
    """``1 channel``, ``13 channels``."""
    return f"{channels} channel{'s' * (channels > 1)}"
