"""Remarks on images that are smaller than what an encoder takes: it then sees them enlarged, hence blurred."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from sslkit.errors import number_of
from stages.contract.layout import Run
from stages.contract.output import say

if TYPE_CHECKING:
    from torch import Tensor

SPLITS = ("train", "val")


def say_enlarged(run: Run, size: int, splits: Sequence[str] = SPLITS) -> None:
    """Say it where even the largest prepared image of a split is smaller than ``size``, the encoder's, in pixels."""
    there = run.prepared()["splits"]
    sizes = {name: there[name]["largest_image"] for name in splits if "largest_image" in there.get(name, {})}
    small = {name: shape for name, shape in sizes.items() if min(shape) < size}
    if small:
        height, width = max(small.values(), key=lambda shape: shape[0] * shape[1])
        say(
            f"images of {' and '.join(small)} (at most {width} x {height} px) are enlarged to the {size} px that the "
            "encoder takes"
        )


def say_enlarged_photos(shapes: Iterable[Sequence[int]], size: int) -> None:
    """Say how many of some photos, given as (height, width), have a shorter side below ``size``, the encoder's."""
    shapes = list(shapes)
    small = [shape for shape in shapes if min(shape) < size]
    if small:
        height, width = min(small, key=min)
        some = number_of(len(shapes), "image", "is") if len(small) == len(shapes) else _some(len(small), len(shapes))
        say(f"{some} enlarged to a shorter side of {size} px (the smallest has {width} x {height} px)")


def watch_sizes(pictures: "Iterable[tuple[str, Tensor]]", size: int) -> "Iterator[tuple[str, Tensor]]":
    """The same named (C, H, W) images; after the last one it is said how many of them are enlarged."""
    shapes = []
    for name, image in pictures:
        shapes.append(image.shape[-2:])
        yield name, image
    say_enlarged_photos(shapes, size)


def _some(part: int, whole: int) -> str:
    return f"{part} of {whole} images {'is' if part == 1 else 'are'}"
