"""``sslkit segment``: how well an encoder localises objects, next to a randomly initialised baseline."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sslkit.errors import SslkitError, UsageError, did_you_mean, number_of
from sslkit.statistics.signed import signed
from stages.contract.layout import Result, Run, open_run
from stages.contract.output import say, show, table
from stages.contract.perform import perform
from stages.contract.stage import Stage
from stages.inputs.encoder import EncoderSource, build, resolve
from stages.inputs.images import photo_rules
from stages.inputs.photo_folders import expect_same, places
from stages.inputs.segmentation import open_photos, say_enlarged_ones, settings, variant_of
from stages.options.basic import PhotoSizeOption, ResultOptions
from stages.options.encoder import EncoderOptions
from stages.options.masked_photos import MaskedPhotoOptions

if TYPE_CHECKING:
    import torch

    from sslkit.probes.segmentation.mask_folder import MaskFolder
    from sslkit.probes.segmentation.photo_encoder import PhotoEncoder
    from sslkit.probes.segmentation.photos import Photos
    from sslkit.probes.segmentation.protocols import FoundObjects, ProbeResult

    PhotoRows = tuple[Photos, list[int]]

PROTOCOLS = ("attention", "ncut", "probe")
KEYS = {"attention": "jaccard", "attention_by_class": "jaccard", "ncut": "jaccard", "probe": "miou"}
TITLES = {"attention_by_class": "attention, whole classes"}
PROTOCOL_HELP = (
    "attention (60 % of its mass), ncut (normalised cut of the keys), probe (linear, on patches); repeatable, or "
    "separated by commas. Default: attention,ncut for binary masks, all for masks of several classes."
)


STAGE = Stage(
    name="segment",
    help="Evaluate attention and patches by object masks.",
    order=80,
    folder="segment",
    title="segmentation",
    evaluates=True,
    metrics={
        "jaccard": "Jaccard",
        "jaccard_by_class": "Jaccard by class",
        "ncut": "Jaccard of the cut",
        "miou": "mIoU",
    },
    protocol=("photos", "count", "mass", "tau", "binary", "void", "background"),
    otherwise="--name NAME keeps both",
)


@STAGE.command
@dataclass(kw_only=True)
class Segment(EncoderOptions, ResultOptions, MaskedPhotoOptions):
    """Segment photos by attention, by a normalised cut, and by a linear probe, and score the result against masks.

    A randomly initialised baseline is reported alongside. Masks are binary (0 and one other value) or of classes (a
    number or a colour each; 0 is the background, 255 void). Photos and masks are those of --images and --masks, whose
    names may have endings such as _L, or of a dataset (VOC also has single objects), or of the prepared val, if it has
    masks, as that of shapes.
    """

    protocol: Annotated[
        list[str] | None, typer.Option("--protocol", metavar="NAME", help=PROTOCOL_HELP, show_default=False)
    ] = None
    image_size: PhotoSizeOption = None
    mass: Annotated[float, typer.Option("--mass", min=0.01, max=1.0, help="Share of attention in a mask.")] = 0.6
    tau: Annotated[float, typer.Option("--tau", help="Cosine above which the cut joins two patches.")] = 0.2

    def execute(self) -> None:
        """Measure, and print the results."""
        self.no_pixels("has no patches to segment with")
        asked = _protocols(self.protocol)
        folder = open_photos(self, self.data)
        here = open_run(self.run) if folder else self.open_run()
        # Built at its own size: positions are then resampled once, to each photo's grid, and not twice.
        source = resolve(here, self)
        folder = folder and replace(folder, rules=photo_rules(here, source.channels, self.max_pixels))
        inputs = dict(source.files) if folder else {**source.files, "data": here.need(here.manifest)}
        inputs |= {"palette": self.palette} if self.palette else {}
        where, bits = self.place()
        config: Result = {
            **source.config(),
            "image_size": self.image_size or source.image_size,
            "protocols": asked or list(PROTOCOLS if folder and not folder.binary else PROTOCOLS[:2]),
            **settings(self, folder),
            **{"mass": self.mass, "tau": self.tau, "seed": self.seed},
            "precision": bits,
        }
        variant = variant_of(self)
        folders = {"images": self.images, "masks": self.masks, "dataset": self.dataset}
        if folder and not self.force:
            digest, advice = folder.digest, ", or keep both with --name NAME"
            expect_same(here, STAGE.id(variant), folders, lambda old: old["config"]["photos"] == digest, advice)
        results = perform(
            here,
            STAGE,
            variant=variant,
            prepare=lambda: _prepare(here, config, source, where, folder, not asked),
            work=lambda path, ready: _segment(path, here, config, ready),
            config=config,
            inputs=inputs,
            how={"device": self.place_described(), **places(**folders)},
            force=self.force,
        )
        show(results, _lines(results, here.folder(STAGE.id(variant))), self.json)


def _protocols(words: list[str] | None) -> list[str] | None:
    if not words:
        return None
    asked = [name.strip() for word in words for name in word.split(",") if name.strip()]
    unknown = [name for name in asked if name not in PROTOCOLS]
    if unknown or not asked:
        hint = did_you_mean(unknown[0] if unknown else "", PROTOCOLS)
        raise UsageError(f"--protocol {','.join(words)}: no protocol '{unknown[0] if unknown else ''}', {hint}")
    return [name for name in PROTOCOLS if name in asked]


@dataclass(frozen=True)
class SegmentInputs:
    """The photos and the encoders, opened and checked.

    Attributes:
        encoders: by name: ``trained`` where there is one, and ``random``.
        parts: photos and rows to train the probe on, and to test it on; None without the probe.
        unavailable: protocols that were asked for and that the encoder does not allow, and why.
        from_data: whether the photos are those of the prepared data.
        remarks: on what was recognised and left out.
    """

    photos: "Photos"
    encoders: "Mapping[str, PhotoEncoder]"
    parts: "tuple[PhotoRows, PhotoRows] | None"
    unavailable: dict[str, str]
    from_data: bool
    remarks: list[str]


def _prepare(
    run: Run, config: Result, source: EncoderSource, device: "torch.device", folder: "MaskFolder | None", default: bool
) -> SegmentInputs:
    """Open photos and encoders, and refuse what cannot be measured with them.

    Raises:
        SslkitError: no masks, no object in them, too few photos for the probe, no attention if nothing else was asked
            for, or weights that do not fit.
    """
    from sslkit.data.shards import open_split
    from sslkit.probes.segmentation.photos import MaskedSplit

    photos = folder or MaskedSplit(open_split(run.data, "val"), config["count"])
    remarks = [*photos.remarks, *photos.check()]
    unavailable: dict[str, str] = {}
    parts = None
    if "probe" in config["protocols"]:
        try:
            parts = _train_and_test(run, photos, config["seed"], folder is None)
        except SslkitError as error:
            if not default:
                raise
            unavailable["probe"] = str(error)
    encoders = _encoders(source, config, device)
    say_enlarged_ones(run, folder, config["image_size"])
    why = next(iter(encoders.values())).no_attention
    unavailable |= {"attention": why} if why and "attention" in config["protocols"] else {}
    if list(unavailable) == config["protocols"]:
        raise SslkitError(f"{why}; try --protocol ncut,probe")
    return SegmentInputs(photos, encoders, parts, unavailable, folder is None, remarks)


def _encoders(source: EncoderSource, config: Result, device: "torch.device") -> "dict[str, PhotoEncoder]":
    """The encoder, and the same architecture randomly initialised."""
    from sslkit.probes.segmentation.photo_encoder import PhotoEncoder

    baseline = replace(source, kind="random", files={}, seed=config["seed"])
    sources = {"random": baseline} if source.kind == "random" else {"trained": source, "random": baseline}
    frozen = {name: build(one, device, config["precision"]) for name, one in sources.items()}
    return {name: PhotoEncoder(one, config["image_size"]) for name, one in frozen.items()}


def _train_and_test(run: Run, photos: "Photos", seed: int, from_data: bool) -> "tuple[PhotoRows, PhotoRows]":
    """The two halves of a folder, or the prepared splits."""
    from sslkit import rng
    from sslkit.data.shards import open_split
    from sslkit.probes.segmentation.photos import MaskedSplit

    images = len(photos.names)
    if from_data:
        # As many images as are tested on: more would make the probe slower, not the comparison fairer.
        train_photos = MaskedSplit(open_split(run.data, "train"), images)
        train, test = (train_photos, list(range(len(train_photos.names)))), (photos, list(range(images)))
    else:
        order = rng.generator(seed, "segment/train-and-test").permutation(images)
        train, test = ((photos, sorted(part.tolist())) for part in (order[: images // 2], order[images // 2 :]))
    if len(train[1]) < 2:
        raise SslkitError(f"the probe needs four photos with masks, but there are {images}: leave it out of --protocol")
    return train, test


def _segment(folder: Path, run: Run, config: Result, ready: SegmentInputs) -> Result:
    """Measure, draw, write ``results.json`` and ``jaccard.npz``."""
    from sslkit.files import write_json
    from sslkit.plots.segmentation import draw_pictures
    from sslkit.probes.segmentation.protocols import SegmentationSettings, find_objects, probe_patches
    from sslkit.probes.segmentation.results import summarise

    photos, seed = ready.photos, config["seed"]
    if ready.from_data:
        run.remember_data()
    for remark in ready.remarks:
        say(remark)
    unavailable = dict(ready.unavailable)
    found, probed = {}, {}
    if asked := [name for name in config["protocols"] if name != "probe"]:
        settings = SegmentationSettings(asked, config["mass"], config["tau"], seed)
        found = {name: find_objects(photos, one, settings, f"segment: {name}") for name, one in ready.encoders.items()}
        without = len(photos.names) - len(next(iter(found.values())).rows)
        if without:
            say(f"{number_of(without, 'photo', 'contains')} no object; used by the probe only")
    if ready.parts:
        train, test = ready.parts
        try:
            probed = {
                name: probe_patches(train, test, one, seed, f"segment: probe, {name}")
                for name, one in ready.encoders.items()
            }
        except SslkitError as error:
            if not found:
                raise
            unavailable["probe"] = str(error)  # what was measured before is not lost
    results: Result = {
        "images": len(photos.names),
        "masks": "binary" if photos.binary else "classes",
        "classes": list(photos.classes),
        "image_size": config["image_size"],
        "unavailable": unavailable,
        **({"remarks": ready.remarks} if ready.remarks else {}),
        **summarise(found, probed, photos, seed),
    }
    results["pictures"] = draw_pictures(folder, photos, found, results) if found else []
    _save(folder / "jaccard.npz", photos, found, probed)
    write_json(folder / "results.json", results)
    return results


def _save(
    path: Path, photos: "Photos", found: "Mapping[str, FoundObjects]", probed: "Mapping[str, ProbeResult]"
) -> None:
    """``jaccard.npz``: the scores of every photo, by encoder and measure."""
    import numpy as np

    from sslkit.files import atomic

    arrays: dict[str, Any] = {}
    for name, one in found.items():
        arrays["names"] = np.array(photos.names)[one.rows]
        arrays["whole_picture"], arrays["whole_picture_as_one"] = one.whole, one.whole_as_one
        arrays |= {f"{name}_{measure}": values for measure, values in one.scores.items()}
        arrays |= {f"{name}_heads": one.heads} if one.heads is not None else {}
        if one.by_class is not None:
            arrays |= {f"{name}_{measure}_by_class": values for measure, values in one.by_class.scores.items()}
    arrays |= {f"{name}_confusion": one.tables for name, one in probed.items()}
    with atomic(path) as handle:
        np.savez(handle, **arrays)


def _lines(results: Result, folder: Path) -> list[str]:
    """A table of encoders, with their difference and its 95 % interval, in percent."""
    rows: list[list[Any]] = []
    for protocol, key in KEYS.items():
        if protocol not in results:
            continue
        one, named = results[protocol], TITLES.get(protocol, protocol)
        if "attention_by_class" in results and protocol == "attention":
            named = "attention, single objects"
        measures = list(one["random"]) if protocol.startswith("attention") else [None]
        for measure in measures:
            cells = {name: row[measure] if measure else row for name, row in one.items()}
            title = f"{named}: {measure.replace('_', ' ')}" if measure else named
            gap = cells.get("difference")
            shown = [f"{cells[name][key]:.1f}" if name in cells else "-" for name in ("trained", "random")]
            interval = "{} ({} to {})".format(*map(signed, [gap[key], *gap["interval"]])) if gap else "-"
            rows.append([title, "mIoU" if key == "miou" else "Jaccard", *shown, interval])
        if whole := results.get("whole_picture", {}).get(protocol):
            rows.append([f"{named}: the whole picture", "Jaccard", *2 * [f"{whole['jaccard']:.1f}"], "-"])
    head = f"{number_of(results['images'], 'photo')}, {results['masks']} masks, "
    head += f"shorter side {results['image_size']} pixels, percent"
    remarks = [f"no {name}: {why}" for name, why in results["unavailable"].items()]
    titles = ["protocol", "measure", "trained", "random", "difference (95 % interval)"]
    return [head, *table([titles, *rows]), *remarks, *(str(folder / one["file"]) for one in results["pictures"])]
