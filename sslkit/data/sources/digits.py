"""scikit-learn's digits: 1,797 real handwritten digits, 8 x 8, available offline."""

from functools import cached_property

import numpy as np
from PIL import Image

from sslkit.data import images
from sslkit.data.sources.base import Sample, Source

SIZE = 32  # pixels, the input size of the small encoders
TRAIN = 1437  # the rest, from other writers, is val


class Digits(Source):
    """The digits, resized from 8 x 8 to 32 x 32."""

    classes = [str(digit) for digit in range(10)]  # noqa: RUF012
    takes_root = False

    @cached_property
    def _data(self) -> tuple[np.ndarray, np.ndarray]:
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        grays = np.rint(np.asarray(pixels) * (255 / 16)).astype(np.uint8)  # 0 ... 16 in the data set
        return grays.reshape(-1, 8, 8), np.asarray(labels, np.int64)

    def splits(self) -> dict[str, np.ndarray]:
        """1,437 labels for train, 360 for val."""
        return {"train": self._data[1][:TRAIN], "val": self._data[1][TRAIN:]}

    def read(self, split: str, index: int) -> Sample:
        """The digit as a grayscale PNG."""
        position = index + (TRAIN if split == "val" else 0)
        pixels, labels = self._data
        digit = Image.fromarray(pixels[position]).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
        return Sample(f"{position:04d}", images.encode_png(np.asarray(digit)), "png", int(labels[position]))
