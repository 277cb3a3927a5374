"""Which values images of more than 8 bits use, and which range they are given: one for the whole dataset.

One range keeps intensities comparable between images, which a range for each image would not.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sslkit.data.pixels.conversion import finite, kind_of
from sslkit.errors import SslkitError, UsageError, number_of

FULL = 65535
BIT_DEPTHS = (8, 10, 12, 14, 16)
COMMON = (0.1, 99.9)  # percentiles: what lies beyond are hot pixels, metal and dead ones
SMALL_PART = 0.5  # of 16 bits; images that use less come out dark or flat
SPARSE = 1 / 8  # of a natural range, such as 12 bits: common values that use less are stretched


def value_facts(values: Tensor) -> dict[str, Any] | None:
    """What is known of an image's values, to be merged with others'; None for 8 bits.

    Args:
        values: (c, H, W) as ``images.read`` returns them.
    """
    if values.dtype == torch.uint8:
        return None
    known = finite(values)
    nan = known.size < values.numel()
    known = known if known.size else np.zeros(1)
    return {
        "images": 1,
        "values": [float(known.min()), float(known.max())],
        "common": [float(value) for value in np.percentile(known, COMMON, method="nearest")],
        "nan": int(nan),
        "kinds": [kind_of(values)],
    }


def merged(facts: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Facts of several images together; None of none."""
    every = list(facts)
    if not every:
        return None
    both = {key: [min(one[key][0] for one in every), max(one[key][1] for one in every)] for key in ("values", "common")}
    counts = {key: sum(one[key] for one in every) for key in ("images", "nan")}
    return {**counts, **both, "kinds": sorted({kind for one in every for kind in one["kinds"]})}


@dataclass(frozen=True)
class ChosenRange:
    """A range, and how it was found.

    Attributes:
        span: the values that become 0 and 255; None takes all of 16 bits.
        how: in words, for the manifest and the end of ``prepare``.
    """

    span: tuple[float, float] | None
    how: str


def parse_range(text: str) -> tuple[float, float] | None:
    """The two numbers of ``--range LO,HI``; None for ``full``.

    Raises:
        UsageError: it is neither.

    >>> parse_range("-1024,3071"), parse_range("full")
    ((-1024.0, 3071.0), None)
    """
    if text == "full":
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--range {text}: auto, full, or two numbers such as 0,4095") from None
    if not (np.isfinite([low, high]).all() and low < high):
        raise UsageError(f"--range {text}: the first number is black and must be less than the second, white")
    return low, high


def automatic(found: Mapping[str, Any] | None, images: int) -> ChosenRange:
    """The range for a dataset, from facts of some of its images.

    Unsigned whole numbers get the smallest of 8, 10, 12, 14 and 16 bits that holds all of them; floating-point numbers
    in [0, 1] get 0 to 1; others what lies between the smallest and the largest. Where common values use less than an
    eighth of that, or numbers are signed, the range is that of the common values of all images.

    Args:
        found: merged facts; None if no image has more than 8 bits.
        images: how many were looked at.

    Raises:
        SslkitError: whole and floating-point numbers, which no range suits.
    """
    if found is None:
        return ChosenRange(None, f"none of {images} images looked at has more than 8 bits: nothing to choose")
    floats = "floating-point" in found["kinds"]
    if floats and len(found["kinds"]) > 1:
        raise SslkitError(
            f"--range auto: images hold values of several kinds ({', '.join(found['kinds'])}): prepare each kind "
            "separately, or give --range LO,HI"
        )
    (low, high), common = found["values"], found["common"]
    if floats and low >= 0 and high <= 1:
        span, why = (0.0, 1.0), "all in 0 to 1"
    elif not floats and low >= 0 and high <= FULL:
        bits = next(depth for depth in BIT_DEPTHS if high < 2**depth)
        span, why = (0.0, 2.0**bits - 1), f"all within {bits} bits"
    else:
        span, why = None, ""
    wide = span or (low, high)
    if span is None or common[1] - common[0] < SPARSE * (wide[1] - wide[0]):
        span = (common[0], common[1]) if common[1] > common[0] else (low, high if high > low else low + 1)
        why = f"99.8 % of the values of every image; the few outside are clipped (all: {low:g} to {high:g})"
    looked = f"{found['images']} {'/'.join(found['kinds'])} image{'s' * (found['images'] > 1)} looked at"
    return ChosenRange(span, f"{shown(span)}, {why}; {looked}")


def range_remarks(
    found: Mapping[str, Any] | None, span: tuple[float, float] | None, given: str, images: int
) -> list[str]:
    """What to say, once all images are packed, about those of more than 8 bits.

    Args:
        found: merged facts of all images; None if none has more than 8 bits.
        span: what was taken.
        given: the option, such as ``auto``; empty without one.
        images: of the dataset.
    """
    remarks = []
    narrow = images - (found["images"] if found else 0)
    if span is not None and narrow:
        which = f"{narrow} of {images} images " + ("has 8 bits" if narrow == 1 else "have 8 bits")
        remarks.append(f"{which}, kept as in the file, whatever --range says")
    if found is None:
        return remarks
    (low, high), (from_, to) = found["values"], found["common"]
    if span is None and to - from_ < SMALL_PART * FULL:
        use = f"use only {low:g} to {high:g} of 0 to {FULL}"
        if high - low >= SMALL_PART * FULL:
            use = f"have nearly all of their values in {from_:g} to {to:g} of 0 to {FULL}"
        told = "; --range auto, or LO,HI, stretches them" if given != "full" else ""
        remarks.append(f"{found['images']} 16-bit images {use} and come out dark or flat{told}")
    if span is not None and (low < span[0] or high > span[1]):
        remarks.append(f"values outside of {shown(span)} are clipped: {low:g} to {high:g} occur")
    if found["nan"]:
        remarks.append(
            f"{number_of(found['nan'], 'image', 'holds')} NaN or infinity: NaN became 0, like the smallest values"
        )
    return remarks


def shown(span: tuple[float, float]) -> str:
    """``0 to 4095``."""
    return f"{span[0]:g} to {span[1]:g}"
