"""What a person should know of a prepared dataset: counts, classes, sizes, and frames that were not used."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from sslkit.data.pixels.rules import RGB
from sslkit.data.pixels.value_range import merged
from sslkit.data.prepare import formats
from sslkit.data.shard_index import Index
from sslkit.data.sources.base import Sample
from sslkit.errors import number_of


def see(
    seen: dict[str, Any],
    sample: Sample,
    image: Tensor,
    size: tuple[int, int],
    wide: dict[str, Any] | None = None,
    wanted: int | None = None,
) -> None:
    """Add a sample to what is known of its shard: sizes, frames, gray images, channels, values of more than 8 bits.

    Args:
        seen: what is known; changed.
        sample: as the source gave it.
        image: (C, H, W) uint8.
        size: (height, width) as it is stored.
        wide: facts of its values, see ``value_facts``.
        wanted: the shorter side that larger images are shrunk to, pixels, or None.
    """
    pixels, channels = image.numpy(), image.shape[0]
    if channels == RGB and _is_grey(pixels[:, ::16, ::16]) and _is_grey(pixels):  # few pixels tell most images
        seen["grey"] = seen.get("grey", 0) + 1
    if channels != RGB:
        shares = image.flatten(1).double() / 255
        sums = seen.setdefault("moments", [0, [0.0] * channels, [0.0] * channels])
        for total, of_image in zip(sums[1:], (shares.mean(1), shares.square().mean(1)), strict=True):
            total[:] = [value + more for value, more in zip(total, of_image.tolist(), strict=True)]
        sums[0] += 1
    if wide:
        seen["wide"] = merged([wide, *([seen["wide"]] if "wide" in seen else [])])
    if wanted and min(size) < wanted:
        seen["smaller_than_size"] = seen.get("smaller_than_size", 0) + 1
    seen["smallest"] = min(seen.get("smallest", size), size, key=_area)
    seen["largest"] = max(seen.get("largest", size), size, key=_area)
    frames = formats.frames(sample.image)
    if frames > 1:
        seen["frames"] = [*seen.get("frames", []), [sample.key, frames]]


def _is_grey(pixels: np.ndarray) -> bool:
    return np.array_equal(pixels[0], pixels[1]) and np.array_equal(pixels[1], pixels[2])


def _area(size: Sequence[int]) -> tuple[int, int]:
    return size[0] * size[1], size[0]


def split_facts(indexes: Sequence[Index], classes: Sequence[str]) -> dict[str, Any]:
    """Facts of a split: images with a label, the smallest and the largest class, sizes, images of several frames.

    Args:
        indexes: of its shards.
        classes: names by label.
    """
    labels = np.concatenate([index.labels for index in indexes])
    found, counts = np.unique(labels[labels >= 0], return_counts=True)
    facts: dict[str, Any] = {"labelled_images": int(counts.sum()), "classes": len(found)}
    if len(found):
        for word, at in (("smallest_class", counts.argmin()), ("largest_class", counts.argmax())):
            facts[word] = [classes[found[at]], int(counts[at])]
    seen = [index.facts for index in indexes if "smallest" in index.facts]
    if seen:
        sizes = [min((one["smallest"] for one in seen), key=_area), max((one["largest"] for one in seen), key=_area)]
        facts["smallest_image"], facts["largest_image"] = sizes
    for fact in ("grey", "smaller_than_size"):
        facts |= {fact: count} if (count := sum(one.get(fact, 0) for one in seen)) else {}
    wide = merged(one["wide"] for one in seen if "wide" in one)
    facts |= {"wide": wide} if wide else {}
    frames = [entry for one in seen for entry in one.get("frames", [])]
    if frames:
        facts["frames"] = {"images": len(frames), "unused": sum(n - 1 for _, n in frames), "such_as": min(frames)}
    return facts


def channel_statistics(indexes: Sequence[Index]) -> dict[str, list[float]]:
    """Mean and standard deviation of each channel over all images, with pixels in [0, 1]; empty for RGB.

    Args:
        indexes: of the shards of train.
    """
    found = [index.facts["moments"] for index in indexes if "moments" in index.facts]
    if not found:
        return {}
    count = sum(one[0] for one in found)
    mean, square = (np.sum([one[part] for one in found], 0) / count for part in (1, 2))
    std = np.sqrt(np.maximum(square - mean**2, 0)).clip(1 / 255)  # a constant channel has no deviation
    return {"mean": mean.round(6).tolist(), "std": std.round(6).tolist()}


def frame_remarks(splits: dict[str, Any]) -> list[str]:
    """A remark for each split that has images of several frames or pages."""
    remarks = []
    for split, facts in splits.items():
        if "frames" in facts:
            name, count = facts["frames"]["such_as"]
            what = f"{number_of(facts['frames']['images'], f'file of {split}', 'holds')} several frames or pages"
            remarks.append(
                f"{what}, {facts['frames']['unused']} beyond the first are not used (such as {name}: {count})"
            )
    return remarks


def small_remark(splits: dict[str, Any], size: int | None) -> list[str]:
    """A remark on images that ``--size`` leaves as they are, because it only shrinks.

    Args:
        splits: of the manifest.
        size: the shorter side that was asked for, pixels; None: as the images are.
    """
    found = [(name, facts) for name, facts in splits.items() if "smaller_than_size" in facts]
    if not found:
        return []
    counts = " and ".join(
        f"{facts['smaller_than_size']} of {facts['samples']} images of {name}" for name, facts in found
    )
    return [f"--size {size} only shrinks: {counts} have a shorter side below that and keep their size"]


def size_remark(skipped: Sequence[dict[str, str]]) -> list[str]:
    """A remark on images that are too large to be read, with what to type."""
    large = [entry for entry in skipped if entry["reason"].startswith("too large")]
    if not large:
        return []
    most = max(int(entry["reason"].split("--max-pixels ")[1].split()[0]) for entry in large)
    first = f"{large[0]['image']}: {large[0]['reason'].split(';')[0].removeprefix('too large: ')}"
    return [
        f"{len(large)} image{'s are' if len(large) > 1 else ' is'} too large (such as {first}): "
        f"--max-pixels {most} takes {'them' if len(large) > 1 else 'it'}"
    ]


def split_line(split: str, facts: dict[str, Any]) -> str:
    """A split in a line: ``train  24 images, 40 x 40 px, 3 classes of 8``."""
    words = [f"{split:<6} {number_of(facts['samples'], 'image')}"]
    if "smallest_image" in facts:
        small, large = (f"{width} x {height}" for height, width in (facts["smallest_image"], facts["largest_image"]))
        words.append(f"{small} px" if small == large else f"{small} to {large} px")
    labelled, count = facts.get("labelled_images", 0), facts.get("classes", 0)
    if not labelled:
        return ", ".join([*words, "no labels"])
    if labelled < facts["samples"]:
        words.append(f"{labelled} labelled")
    (small, fewest), (large, most) = facts["smallest_class"], facts["largest_class"]
    span = f"of {fewest}" if fewest == most else f"of {fewest} ({small}) to {most} ({large})"
    return ", ".join([*words, f"{count} class{'' if count == 1 else 'es'} {span}"])
