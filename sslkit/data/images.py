"""Decoding images to uint8 RGB tensors, and encoding them again; anything else raises one clear error."""

import io
import re
import warnings

import numpy as np
import torch
import torchvision  # noqa: F401  loads the operators behind torch.ops.image
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch.nn import functional as F

from sslkit.data.decoding import png
from sslkit.data.pixels.arrays import NPY, as_tensor, is_wide_tiff, read_npy, read_wide_tiff
from sslkit.data.pixels.conversion import to_8_bits, to_channels
from sslkit.data.pixels.header_size import header_size
from sslkit.data.pixels.rules import DEFAULT, RGB, STANDARD, PixelRules, check_channels
from sslkit.data.prepare.formats import load_plugins
from sslkit.errors import SslkitError

JPEG_QUALITY = 95
PILLOW_MODES = {3: "RGB", 4: "RGBA"}
MARGIN = 2  # times as large as wanted, at least, is a JPEG that is decoded at a reduced size
SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that exchange height and width


def decode(data: bytes, rules: PixelRules = DEFAULT, verified: bool = False) -> torch.Tensor:
    """Decode an image of any common format.

    Args:
        data: the encoded file.
        rules: how many channels, which range of values, and how large an image may be.
        verified: the same bytes have been decoded before, as a checksum of them says.

    Returns:
        uint8 (C, H, W), in the memory order the decoder left (mostly channels last).

    Raises:
        SslkitError: the bytes are not an image, it is damaged or truncated, too large, has other channels, or values
            whose range is unknown.
    """
    return finish(read(data, rules, verified), rules)


def finish(values: torch.Tensor, rules: PixelRules) -> torch.Tensor:
    """What ``read`` returned, as uint8 (C, H, W)."""
    if values.dtype == torch.uint8 and values.shape[0] == rules.channels:
        return values
    check_channels(len(values), rules.channels)
    return to_channels(to_8_bits(values, rules.span), rules.channels)


def read(data: bytes, rules: PixelRules = DEFAULT, verified: bool = False) -> torch.Tensor:
    """The values of an image: (c, H, W) of its own type.

    JPEG, PNG and WebP go through torchvision's decoder, everything else (and what it refuses) through Pillow; NumPy
    files and TIFFs of several wide channels are read as arrays. Palettes, 8-bit grayscale and CMYK become RGB, alpha is
    dropped unless 4 channels are asked for, the EXIF orientation is applied, and of an animation the first frame is
    taken.
    """
    if data.startswith(NPY):
        return read_npy(data, rules)
    if is_wide_tiff(data):
        return read_wide_tiff(data, rules)
    if rules.channels not in STANDARD:
        raise SslkitError(f"has {RGB} channels, not {rules.channels}")
    wanted = 4 if rules.channels == 4 else RGB  # torchvision's ImageReadMode has these numbers too
    if _for_torchvision(data) and _size_known(data, rules):
        try:
            # The operator itself: torchvision.io's function around it warns of its move to torchcodec at every call.
            risky = data.startswith(png.SIGNATURE) and not verified
            encoded = png.checked(data) if risky else bytearray(data)
            return torch.ops.image.decode_image(torch.frombuffer(encoded, dtype=torch.uint8), wanted, True)
        except (RuntimeError, AttributeError):
            pass  # Pillow decodes it, or gives a shorter reason why not.
    return _read_with_pillow(data, rules, wanted)


def read_to_shrink(data: bytes, rules: PixelRules, shorter_side: int | None) -> tuple[torch.Tensor, tuple[int, int]]:
    """The values of an image that is to be shrunk, and the (height, width) to ``shrink`` it to.

    A JPEG whose shorter side is at least four times the wanted one is decoded at a half, a quarter or an eighth of its
    size, but at twice the wanted one or more, as Pillow's ``thumbnail`` does.
    """
    size = header_size(data) if shorter_side and extension(data) == "jpg" and rules.channels in STANDARD else None
    if shorter_side and size and min(size) >= 2 * MARGIN * shorter_side:
        try:
            return _read_reduced(data, rules, shorter_side)
        except SslkitError:
            raise
        except Exception:
            pass  # It is decoded in full, or refused with a reason.
    values = read(data, rules)
    height, width = values.shape[1:]
    return values, shrunk_size(height, width, shorter_side)


def _read_reduced(data: bytes, rules: PixelRules, shorter_side: int) -> tuple[torch.Tensor, tuple[int, int]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with open_picture(data, rules) as opened:
            # Pillow also takes an orientation from XMP, where torchvision does not look.
            if opened.mode not in ("RGB", "L") or "xmp" in opened.info:
                raise ValueError("to be decoded in full")
            height, width = shrunk_size(opened.height, opened.width, shorter_side)
            opened.draft("RGB", (MARGIN * width, MARGIN * height))
            turned = opened.getexif().get(ExifTags.Base.Orientation, 1) in SIDEWAYS
            return _values(opened, 4 if rules.channels == 4 else RGB), (width, height) if turned else (height, width)


def is_wide(data: bytes) -> bool:
    """Whether a PNG holds 16 bits; JPEG and WebP never do."""
    return data.startswith(png.SIGNATURE) and data[24:25] == b"\x10"


def open_picture(data: bytes, rules: PixelRules = DEFAULT) -> Image.Image:
    """An image file opened by Pillow, not yet decoded; one that is too large is refused.

    Raises:
        SslkitError: it is too large.
        Exception: whatever Pillow raises for what is no image.
    """
    load_plugins()
    opened = Image.open(io.BytesIO(data))
    rules.check_size(*opened.size)
    return opened


def _size_known(data: bytes, rules: PixelRules) -> bool:
    """Whether an image can be decoded whatever its size; nothing is parsed where any size will do.

    Raises:
        SslkitError: it is too large.
    """
    if rules.max_pixels is None:
        return True
    size = header_size(data)
    if size is not None and max(size) <= png.LARGEST_SIDE:
        rules.check_size(*size)
    return size is not None or data.startswith(png.SIGNATURE)  # which is checked thoroughly


def extension(data: bytes) -> str:
    """``jpg``, ``png`` or ``webp`` by the first bytes, else ``""``; names lie: ImageNet has a PNG named .JPEG."""
    if data.startswith(b"\xff\xd8\xff"):
        return "jpg"
    if data.startswith(png.SIGNATURE):
        return "png"
    return "webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else ""


def encode_jpeg(image: torch.Tensor) -> bytes:
    """JPEG of quality 95 of a uint8 image (1, H, W) or (3, H, W)."""
    return _encode(Image.fromarray(_channels_last(image)), "JPEG", quality=JPEG_QUALITY)


def encode_png(image: torch.Tensor | np.ndarray) -> bytes:
    """PNG of a uint8 image: a tensor (C, H, W), or an array (H, W) or (H, W, C), with C of 1, 3 or 4."""
    array = _channels_last(image) if isinstance(image, torch.Tensor) else image
    return _encode(Image.fromarray(np.ascontiguousarray(array)), "PNG")


def encode_npy(image: torch.Tensor) -> bytes:
    """NumPy file (H, W, C) of a uint8 image (C, H, W)."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(image.permute(1, 2, 0).numpy()))
    return buffer.getvalue()


def encode_exactly(image: torch.Tensor) -> tuple[str, bytes]:
    """The extension and bytes that keep every value of a uint8 image (C, H, W)."""
    return ("png", encode_png(image)) if len(image) in STANDARD else ("npy", encode_npy(image))


def shrink(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """A uint8 image (C, H, W) resized (bicubic, antialiased) to (height, width): within a level of Pillow's."""
    if size == image.shape[1:]:
        return image
    # By this way round, the channels of a decoded image stay last, as the encoder takes them.
    batch = image.permute(1, 2, 0)[None].permute(0, 3, 1, 2)
    return F.interpolate(batch, size, mode="bicubic", antialias=True)[0]


def _channels_last(image: torch.Tensor) -> np.ndarray:
    """(C, H, W) -> (H, W, C), or (H, W) of one channel, as Pillow takes it."""
    return image[0].numpy() if len(image) == 1 else image.permute(1, 2, 0).numpy()


def shrunk_size(height: int, width: int, shorter_side: int | None) -> tuple[int, int]:
    """(height, width) with a shorter side of so many pixels; never enlarged, and unchanged for None.

    >>> shrunk_size(300, 400, 150), shrunk_size(300, 400, 500)
    ((150, 200), (300, 400))
    """
    if shorter_side is None or min(height, width) <= shorter_side:
        return height, width
    if height < width:
        return shorter_side, max(1, round(width * shorter_side / height))
    return max(1, round(height * shorter_side / width)), shorter_side


def resize_mask(png: bytes, height: int, width: int) -> bytes:
    """A PNG mask resized by nearest neighbour, which makes no new values.

    Raises:
        SslkitError: it is damaged.
    """
    try:
        with Image.open(io.BytesIO(png)) as mask:
            return _encode(mask.resize((width, height), Image.Resampling.NEAREST), "PNG")
    except Exception as error:  # as where images are decoded
        raise SslkitError(f"damaged mask: {str(error).splitlines()[0] if str(error) else error!r}") from error


def mask_png(data: bytes) -> bytes:
    """A mask in any common format as a grayscale PNG; a PNG is returned as it is.

    Raises:
        SslkitError: it cannot be decoded.
    """
    pixels = decode(data)
    return data if extension(data) == "png" else encode_png(pixels[0].numpy())


def _encode(image: Image.Image, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _for_torchvision(data: bytes) -> bool:
    kind = extension(data)
    # Bits of an extended WebP header: 8 EXIF orientation and 2 animation, neither known to torchvision.
    return bool(kind) and not (kind == "webp" and data[12:16] == b"VP8X" and len(data) > 20 and data[20] & 0b1010)


def _read_with_pillow(data: bytes, rules: PixelRules, channels: int) -> torch.Tensor:
    """(c, H, W): uint8 of so many channels, or one channel of wider values."""
    if not data:
        raise SslkitError("the file is empty")
    try:
        # Pillow warns of odd EXIF blocks; the pixels are good, or it raises.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with open_picture(data, rules) as opened:
                opened.load()
                return _values(opened, channels)
    except UnidentifiedImageError:
        raise SslkitError("not an image in a known format") from None
    except SslkitError:
        raise
    except Exception as error:  # Damaged files raise anything from SyntaxError to struct.error.
        reason = re.sub(r" at 0x[0-9a-f]+", "", str(error).split("\n")[0])
        raise SslkitError(f"damaged image: {reason or type(error).__name__}") from error


def _values(opened: Image.Image, channels: int) -> torch.Tensor:
    image = ImageOps.exif_transpose(opened)
    if image.mode == "F" or (image.mode == "I" and opened.format == "TIFF"):
        return as_tensor(np.asarray(image))
    if image.mode.startswith("I"):  # Pillow holds the 16 bits of other formats in 32
        return as_tensor(np.clip(np.asarray(image).astype(np.int64), 0, 65535).astype(np.uint16))
    return torch.from_numpy(np.array(image.convert(PILLOW_MODES[channels]))).permute(2, 0, 1)
