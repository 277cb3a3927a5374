"""Three protocols that measure how well a frozen encoder localises objects.

attention: per head, the fewest patches that hold 60 % of the attention from CLS; per object, the best head's Jaccard;
the mean over objects, then over photos (arXiv:2104.14294, section 4.2.2). The best head is chosen by the mask itself,
so this is an upper bound, not what is possible without masks. It is reported next to choices that do not use the
photo's own mask: the mean of the heads, the lowest-entropy head, and one head chosen on other photos. Where masks tell
single objects apart, as VOC's do, each is an object, and the regions of each class are scored as well; elsewhere the
region of a class is the object.
ncut: one side of a normalised cut (``sslkit.probes.segmentation.normalised_cut``) against all objects together.
probe: a linear layer on patch tokens (``sslkit.probes.segmentation.patch_probe``), by mIoU.

The whole picture is the trivial baseline: for attention against each object, for the cut against all together, which
gives more if a photo has several.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tqdm import tqdm

from sslkit.encoder.attention import threshold
from sslkit.probes.segmentation.confusion import confusion
from sslkit.probes.segmentation.normalised_cut import TAU, normalised_cut
from sslkit.probes.segmentation.patch_probe import PatchCollector, PatchProbe, train_probe
from sslkit.probes.segmentation.photo_encoder import PhotoEncoder, PhotoTokens
from sslkit.probes.segmentation.photos import Photos
from sslkit.probes.segmentation.scores import count_cells, fixed_head, jaccard, lowest_entropy

CHOICES = ("best_head", "fixed_head", "lowest_entropy", "mean_of_heads")


@dataclass
class FoundObjects:
    """What one encoder finds on n photos with objects; scores are shares in [0, 1]."""

    rows: np.ndarray  # (n,) which photos
    whole: np.ndarray  # (n,) Jaccard of the whole picture, mean over the photo's objects: attention's reference
    whole_as_one: np.ndarray  # (n,) Jaccard of the whole picture with all objects together: the cut's reference
    # By choice of the head, and ``ncut``: (n,) Jaccard of each photo, the mean over its objects.
    scores: dict[str, np.ndarray] = field(default_factory=dict)
    heads: np.ndarray | None = None  # (n, H) Jaccard for each head; None without attention
    best: np.ndarray | None = None  # (n,) the head with the best mean over the photo's objects
    maps: list[np.ndarray] = field(default_factory=list)  # per photo (H, h, w), the mask of each head
    means: list[np.ndarray] = field(default_factory=list)  # per photo (h, w), the mask of the heads' mean
    cuts: list[np.ndarray] = field(default_factory=list)  # per photo (h, w), the side of the cut that is the object
    by_class: "FoundObjects | None" = None  # attention's scores of whole classes, if the others are of single objects

    def masks(self, i: int, encoder: str) -> list[tuple[str, np.ndarray]]:
        """What was found on photo ``i``, as titles and (h, w) masks of patches."""
        found = []
        if self.best is not None:
            head = int(self.best[i])
            percent = {name: f"{100 * values[i]:.0f} %" for name, values in self.scores.items()}
            found.append((f"{encoder}: head {head + 1}, {percent['best_head']}", self.maps[i][head]))
            found.append((f"{encoder}: mean of heads, {percent['mean_of_heads']}", self.means[i]))
        if self.cuts:
            found.append((f"{encoder}: cut, {100 * self.scores['ncut'][i]:.0f} %", self.cuts[i]))
        return found


@dataclass(frozen=True)
class SegmentationSettings:
    """What is measured."""

    protocols: Sequence[str] = ("attention", "ncut")  # for the probe see ``probe_patches``
    mass: float = 0.6  # share of the attention in a head's mask
    tau: float = TAU  # cosine above which the cut joins two patches
    seed: int = 0


def find_objects(photos: Photos, encode: PhotoEncoder, settings: SegmentationSettings, title: str = "") -> FoundObjects:
    """Attention, if the encoder has any, and cut of every photo that has an object; no title shows no progress bar."""
    rows: list[int] = []
    lists: dict[str, list[Any]] = {}
    of_classes: dict[str, list[Any]] = {}
    for row in tqdm(range(len(photos.names)), desc=title, unit=" photos", disable=None if title else True, leave=False):
        image, labels = photos.read(row)
        single = photos.read_objects(row)
        classes = [c for c in photos.objects if (labels == c).any()]
        present = classes if single is None else list(range(1, int(single.max()) + 1))
        if not present or not classes:
            continue
        rows.append(row)
        tokens = encode(image)
        cells = count_cells(labels, len(photos.classes), tokens.grid)
        if single is not None:
            if tokens.attention is not None and "attention" in settings.protocols:
                one = {"whole": _whole(cells, classes), **_attention(tokens, cells, classes, settings.mass)}
                _append(of_classes, {name: value for name, value in one.items() if name not in ("maps", "means")})
            cells = count_cells(single, len(present) + 1, tokens.grid)
        # (K, N) -> (2, N): a cut has two sides and no classes, so all objects count as one.
        others = np.setdiff1d(np.arange(len(cells)), present)
        as_one = np.stack([cells[others].sum(0), cells[present].sum(0)])
        everything = np.ones((1, cells.shape[1]), bool)
        one = {"whole": _whole(cells, present), "whole_as_one": _jaccard_as_one(everything, as_one)}
        if "attention" in settings.protocols and tokens.attention is not None:
            one |= _attention(tokens, cells, present, settings.mass)
        if "ncut" in settings.protocols:
            side = normalised_cut(tokens.keys.numpy(), settings.tau)
            one |= {"ncut": _jaccard_as_one(side[None], as_one), "cuts": side.reshape(tokens.grid)}
        _append(lists, one)
    found = _collect(np.array(rows), lists, settings.seed)
    found.by_class = _collect(np.array(rows), of_classes, settings.seed) if of_classes else None
    return found


def _append(lists: dict[str, list[Any]], one: dict[str, Any]) -> None:
    for name, value in one.items():
        lists.setdefault(name, []).append(value)


def _whole(cells: np.ndarray, objects: Sequence[int]) -> float:
    """Mean Jaccard of the whole picture with each object."""
    return float(jaccard(np.ones((1, cells.shape[1]), bool), cells, objects).mean())


def _attention(tokens: PhotoTokens, cells: np.ndarray, present: list[int], mass: float) -> dict[str, Any]:
    assert tokens.attention is not None
    masks, mean = threshold(tokens.attention, mass).numpy(), threshold(tokens.attention.mean(0), mass).numpy()
    each = jaccard(masks, cells, present)  # (objects, H)
    return {
        "heads": each.mean(0),
        "best_head": each.max(1).mean(),
        "lowest_entropy": each.mean(0)[lowest_entropy(tokens.attention.double().numpy())],
        "mean_of_heads": jaccard(mean[None], cells, present).mean(),
        "maps": masks.reshape(-1, *tokens.grid),
        "means": mean.reshape(tokens.grid),
    }


def _jaccard_as_one(mask: np.ndarray, as_one: np.ndarray) -> float:
    """Jaccard of one mask (1, N) with all objects as one."""
    return float(jaccard(mask, as_one, [1])[0, 0])


def _collect(rows: np.ndarray, lists: dict[str, list[Any]], seed: int) -> FoundObjects:
    found = FoundObjects(
        rows,
        whole=np.array(lists.pop("whole", [])),
        whole_as_one=np.array(lists.pop("whole_as_one", [])),
        maps=lists.pop("maps", []),
        means=lists.pop("means", []),
        cuts=lists.pop("cuts", []),
    )
    heads = lists.pop("heads", None)
    found.scores = {name: np.array(values) for name, values in lists.items()}
    if heads is not None:
        found.heads = np.array(heads)
        found.best = found.heads.argmax(1)
        found.scores["fixed_head"] = fixed_head(found.heads, seed)
    return found


@dataclass(frozen=True)
class ProbeResult:
    """A trained probe, how much it was trained on, and its answers."""

    probe: PatchProbe
    tables: np.ndarray  # (m, K, K) pixel counts by true and predicted class on m test photos
    photos: int  # number of photos it was trained on
    patches: int  # number of patches it was trained on
    most: int  # the largest number of patches that a photo may contribute


def probe_patches(
    train: tuple[Photos, Sequence[int]],
    test: tuple[Photos, Sequence[int]],
    encode: PhotoEncoder,
    seed: int,
    title: str = "",
) -> ProbeResult:
    """Train a linear layer on the patches of some photos and evaluate it on the pixels of others.

    ``train`` and ``test`` are photos of the same classes, and which rows of them to use; no title shows no bars.
    """
    classes, hidden = len(train[0].classes), None if title else True
    collector = PatchCollector(len(train[1]), encode.frozen.encoder.width, seed)
    for row in tqdm(train[1], desc=f"{title}: train", unit=" photos", disable=hidden, leave=False):
        image, labels = train[0].read(row)
        tokens = encode(image)
        collector.add(tokens.patches, count_cells(labels, classes, tokens.grid))
    patches = collector.gathered()
    probe, tables = train_probe(patches, classes, seed, encode.frozen.device, title=title), []
    for row in tqdm(test[1], desc=f"{title}: test", unit=" photos", disable=hidden, leave=False):
        image, labels = test[0].read(row)
        tokens = encode(image)
        tables.append(confusion(labels, probe.predict(tokens.patches, tokens.grid, *labels.shape), classes))
    return ProbeResult(probe, np.array(tables), len(train[1]), len(patches.labels), collector.most)
