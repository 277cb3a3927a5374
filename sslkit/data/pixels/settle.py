"""The rules by which all images of a dataset are read: what was asked for, completed by a look at some of them."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sslkit.data import images
from sslkit.data.pixels.arrays import NPY, npy_layout
from sslkit.data.pixels.rules import MAX_PIXELS, RGB, PixelRules
from sslkit.data.pixels.value_range import automatic, merged, parse_range, range_remarks, value_facts
from sslkit.data.prepare.subset import Selection
from sslkit.data.sources.base import Sample, Source
from sslkit.errors import InterruptedRun, SslkitError, UsageError

LOOKED_AT = 256  # images of train that an automatic range is chosen by; each is decoded twice
TRIED = 8  # images of train until one can be read, for the number of channels


@dataclass(frozen=True)
class PixelOptions:
    """What ``prepare`` is asked for.

    Attributes:
        range: ``auto``, ``full`` or ``LO,HI``; empty for the default, ``full`` with a remark where little is used.
        channels: C; None for that of the images: 3 for all ordinary ones, whether gray or with alpha.
        max_pixels: width x height above which a file is refused.
    """

    range: str = ""
    channels: int | None = None
    max_pixels: int = MAX_PIXELS

    def __post_init__(self):
        if self.range not in ("", "auto"):
            parse_range(self.range)
        if self.channels is not None and self.channels < 1:
            raise UsageError(f"--channels {self.channels}: expected a number from 1")


@dataclass(frozen=True)
class SettledRules:
    """The rules of a dataset.

    Attributes:
        rules: complete.
        asked: what was asked for.
        remarks: how what was not asked for was found.
    """

    rules: PixelRules
    asked: PixelOptions
    remarks: list[str]

    def facts(self) -> dict[str, Any]:
        """What the manifest says: nothing for RGB of whatever range."""
        facts: dict[str, Any] = {} if self.rules.channels == RGB else {"channels": self.rules.channels}
        return facts if self.rules.span is None else {**facts, "range": list(self.rules.span)}

    def as_text(self) -> str:
        """The facts as a part of what is hashed; empty where there are none."""
        return json.dumps(self.facts(), sort_keys=True) if self.facts() else ""

    def all_remarks(self, splits: Mapping[str, Any]) -> list[str]:
        """What to say at the end, given the facts of every packed split."""
        images = sum(facts["samples"] for facts in splits.values())
        wide = merged(facts["wide"] for facts in splits.values() if "wide" in facts)
        grey = sum(facts.get("grey", 0) for facts in splits.values())
        remarks = [*self.remarks, *range_remarks(wide, self.rules.span, self.asked.range, images)]
        if self.rules.channels == RGB and grey == images:
            remarks.append(
                "all images are gray and are read as RGB, which suits published weights; --channels 1 keeps one channel"
            )
        return remarks


def settle(source: Source, selection: Selection, asked: PixelOptions) -> SettledRules:
    """Complete the rules. Reads one image for the channels, and ``LOOKED_AT`` spread over train for ``auto``.

    Raises:
        SslkitError: no range suits the images.
    """
    remarks: list[str] = []
    rules = PixelRules(asked.channels or RGB, max_pixels=asked.max_pixels)
    for sample in _some(source, selection, TRIED):
        try:
            values = images.read(sample.image, rules)
        except SslkitError:
            continue
        if asked.channels is None and len(values) not in (1, RGB):
            rules = replace(rules, channels=len(values))
            remarks.append(f"images have {len(values)} channels: train with --set encoder.channels={len(values)}")
        if sample.image.startswith(NPY):
            remarks.append(f"arrays are read as {npy_layout(sample.image, rules.channels)} (such as {sample.key})")
        break
    if asked.range == "auto":
        found, looked = [], 0
        for sample in _some(source, selection, LOOKED_AT):
            try:
                found.append(value_facts(images.read(sample.image, rules)))
            except SslkitError:
                continue
            looked += 1
        chosen = automatic(merged(facts for facts in found if facts), looked)
        remarks.append(f"--range auto: {chosen.how}")
        rules = replace(rules, span=chosen.span)
    elif asked.range:
        rules = replace(rules, span=parse_range(asked.range))
    return SettledRules(rules, asked, remarks)


def _some(source: Source, selection: Selection, count: int) -> Iterator[Sample]:
    """At most so many of train's images that can be read, spread evenly."""
    split = "train" if "train" in selection.indices else next(iter(selection.indices))
    indices = selection.indices[split]
    for at in np.unique(np.linspace(0, len(indices) - 1, min(count, len(indices))).astype(np.int64)).tolist():
        try:
            yield source.read(selection.read_from[split], int(indices[at]))
        except InterruptedRun:
            raise
        except (SslkitError, OSError):
            continue
