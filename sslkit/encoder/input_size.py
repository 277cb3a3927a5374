"""The size at which a photo of any shape enters an encoder."""

MAX_TOKENS = 8192  # patches; attention costs their square, so a panorama is scaled down


def input_size(height: int, width: int, shorter: int, patch: int) -> tuple[int, int]:
    """Height and width of the encoder's input, in pixels: multiples of ``patch``.

    The shorter side becomes ``shorter``, rounded down to a multiple; the aspect ratio is kept to the nearest whole
    patch. A very long photo is scaled down to ``MAX_TOKENS`` patches.

    >>> input_size(300, 400, 224, 16)
    (224, 304)
    """
    small = max(shorter // patch, 1)
    long = max(round(small * max(height, width) / min(height, width)), small)
    if small * long > MAX_TOKENS:
        ratio = max(height, width) / min(height, width)
        small = max(int((MAX_TOKENS / ratio) ** 0.5), 1)
        long = min(max(round(small * ratio), small), MAX_TOKENS // small)
    rows, columns = (small, long) if height <= width else (long, small)
    return rows * patch, columns * patch
