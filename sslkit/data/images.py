"""Decoding images to uint8 RGB tensors, and encoding them again; anything else raises one clear error."""

import io
import re
import warnings

import numpy as np
import torch
import torchvision  # noqa: F401  loads the operators behind torch.ops.image
from PIL import Image, ImageOps, UnidentifiedImageError

from sslkit.data.decoding import png
from sslkit.data.prepare.formats import load_plugins
from sslkit.errors import SslkitError

RGB = 3  # torchvision's ImageReadMode.RGB
JPEG_QUALITY = 95


def decode(data: bytes) -> torch.Tensor:
    """Decode an image of any common format.

    JPEG, PNG and WebP go through torchvision's decoder, everything else (and what it refuses) through Pillow.
    Palettes, grayscale and CMYK become RGB, alpha is dropped, 16 bits are scaled to 8, the EXIF orientation is
    applied, and of an animation the first frame is taken.

    Args:
        data: the encoded file.

    Returns:
        uint8 (3, H, W), in the memory order the decoder left (mostly channels last).

    Raises:
        SslkitError: the bytes are not an image, or it is damaged or truncated.
    """
    if _for_torchvision(data):
        try:
            # The operator itself: torchvision.io's function around it warns of its move to torchcodec at every call.
            encoded = png.checked(data) if data.startswith(png.SIGNATURE) else bytearray(data)
            image = torch.ops.image.decode_image(torch.frombuffer(encoded, dtype=torch.uint8), RGB, True)
            return image if image.dtype == torch.uint8 else _to_8_bits(image)
        except (RuntimeError, AttributeError):
            pass  # Pillow decodes it, or gives a shorter reason why not.
    return torch.from_numpy(_decode_with_pillow(data)).permute(2, 0, 1)


def extension(data: bytes) -> str:
    """``jpg``, ``png`` or ``webp`` by the first bytes, else ``""``; names lie: ImageNet has a PNG named .JPEG."""
    if data.startswith(b"\xff\xd8\xff"):
        return "jpg"
    if data.startswith(png.SIGNATURE):
        return "png"
    return "webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else ""


def encode_jpeg(image: torch.Tensor) -> bytes:
    """JPEG of quality 95 of a uint8 image (3, H, W)."""
    return _encode(Image.fromarray(image.permute(1, 2, 0).numpy()), "JPEG", quality=JPEG_QUALITY)


def encode_png(image: torch.Tensor | np.ndarray) -> bytes:
    """PNG of a uint8 image: a tensor (3, H, W), or an array (H, W) or (H, W, 3)."""
    array = image.permute(1, 2, 0).numpy() if isinstance(image, torch.Tensor) else image
    return _encode(Image.fromarray(np.ascontiguousarray(array)), "PNG")


def shrink(image: torch.Tensor, shorter_side: int) -> torch.Tensor:
    """A uint8 image (3, H, W) resized (bicubic, antialiased) to a shorter side of so many pixels; never enlarged."""
    height, width = image.shape[1:]
    size = shrunk_size(height, width, shorter_side)
    if size == (height, width):
        return image
    resized = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((size[1], size[0]), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1)


def shrunk_size(height: int, width: int, shorter_side: int) -> tuple[int, int]:
    """(height, width) after ``shrink``.

    >>> shrunk_size(300, 400, 150)
    (150, 200)
    """
    if min(height, width) <= shorter_side:
        return height, width
    if height < width:
        return shorter_side, max(1, round(width * shorter_side / height))
    return max(1, round(height * shorter_side / width)), shorter_side


def resize_mask(png: bytes, height: int, width: int) -> bytes:
    """A PNG mask resized by nearest neighbour, which makes no new values."""
    with Image.open(io.BytesIO(png)) as mask:
        return _encode(mask.resize((width, height), Image.Resampling.NEAREST), "PNG")


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


def _to_8_bits(image: torch.Tensor) -> torch.Tensor:
    # 65535 = 257 * 255: rounded division by 257 takes white to white.
    return ((image.to(torch.int32) + 128) // 257).to(torch.uint8)


def _decode_with_pillow(data: bytes) -> np.ndarray:
    """RGB array (H, W, 3)."""
    if not data:
        raise SslkitError("the file is empty")
    try:
        # Pillow warns of odd EXIF blocks and large images; the pixels are good, or it raises.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            load_plugins()
            with Image.open(io.BytesIO(data)) as opened:
                opened.load()
                return _to_rgb(ImageOps.exif_transpose(opened))
    except UnidentifiedImageError:
        raise SslkitError("not an image in a known format") from None
    except SslkitError:
        raise
    except Exception as error:  # Damaged files raise anything from SyntaxError to struct.error.
        reason = re.sub(r" at 0x[0-9a-f]+", "", str(error).split("\n")[0])
        raise SslkitError(f"damaged image: {reason or type(error).__name__}") from error


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode == "F":
        raise SslkitError("pixels are floating point numbers, whose range is unknown; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        wide = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
        return np.repeat(((wide + 128) // 257).astype(np.uint8)[..., None], 3, axis=2)
    return np.array(image.convert("RGB"))
