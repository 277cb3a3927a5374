"""``sslkit segment``: where an encoder sees objects, against masks, beside the same encoder with random weights."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from sslkit.errors import SslkitError, UsageError, did_you_mean
from stages.contract.layout import Result, Run, open_run
from stages.contract.output import say, show, table
from stages.contract.perform import perform
from stages.contract.stage import Stage
from stages.inputs.encoder import EncoderSource, build
from stages.inputs.photo_folders import expect_same, places
from stages.inputs.segmentation import open_photos, variant_of
from stages.options.basic import ForceOption, JsonOption, PhotoSizeOption, RunArgument
from stages.options.encoder import EncoderChoice, takes_encoder

if TYPE_CHECKING:
    import torch

    from sslkit.probes.segmentation.masks_on_disk import MaskFolder, Photos
    from sslkit.probes.segmentation.patch_tokens import PatchTokens
    from sslkit.probes.segmentation.protocols import Found, Probed

    Part = tuple[Photos, list[int]]

PROTOCOLS = ("attention", "ncut", "probe")
PROTOCOL_HELP = (
    "attention (60 % of its mass), ncut (normalised cut of the keys), probe (linear, on patches); repeatable, or with "
    "commas. Default: attention,ncut for binary masks, all for masks of several classes."
)


STAGE = Stage(
    name="segment",
    help="Evaluate attention and patches by object masks.",
    order=80,
    folder="segment",
    title="segmentation",
    evaluates=True,
    metrics={"jaccard": "Jaccard", "ncut": "Jaccard of the cut", "miou": "mIoU"},
    protocol=("photos", "count", "mass", "tau", "binary", "void"),
)


@STAGE.command
@takes_encoder
def segment(
    run: RunArgument,
    *,
    images: Annotated[
        Optional[Path],  # noqa: UP045  typer reads the annotation at run time on Python 3.10
        typer.Option("--images", metavar="DIR", help="Photos, of any size.", show_default=False),
    ] = None,
    masks: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--masks", metavar="DIR", help="Their masks, by the photos' names.", show_default=False),
    ] = None,
    protocol: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--protocol", metavar="NAME", help=PROTOCOL_HELP, show_default=False),
    ] = None,
    image_size: PhotoSizeOption = None,
    count: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--count", min=1, help="How many photos, spread evenly over the set; default: all of it."),
    ] = None,
    mass: Annotated[float, typer.Option("--mass", min=0.01, max=1.0, help="Share of attention in a mask.")] = 0.6,
    tau: Annotated[float, typer.Option("--tau", help="The cut joins patches of a cosine above this.")] = 0.2,
    binary: Annotated[
        bool, typer.Option("--binary", help="Masks of one object with values between; above half is the object.")
    ] = False,
    void: Annotated[
        int, typer.Option("--void", help="In masks of several classes, the value that counts nowhere.")
    ] = 255,
    encoder: EncoderChoice,
    json: JsonOption = False,
    force: ForceOption = False,
) -> None:
    """Segment photos by attention, by a normalised cut, by a linear probe; a random encoder stands beside.

    Masks are binary (0 and one other value) or of classes (grey or palette, 0 background, 255 void). Without --images
    and --masks the prepared val is taken, where it has masks, as shapes has.
    """
    encoder.no_pixels("has no patches to segment with")
    asked = _protocols(protocol)
    photos = open_photos(images, masks, encoder.data, count, binary, void)
    here = open_run(run) if photos else encoder.open(run)
    # Built at its own size: positions are then resampled once, to each photo's grid, and not twice.
    source = encoder.source(here)
    inputs = dict(source.files) if photos else {**source.files, "data": here.need(here.manifest)}

    where, bits = encoder.place()
    config: Result = {
        **source.config(),
        "image_size": image_size or source.image_size,
        "protocols": asked or (list(PROTOCOLS[:2]) if photos is None or photos.binary else list(PROTOCOLS)),
        "photos": photos.digest if photos else "val",
        **{"count": count, "mass": mass, "tau": tau, "binary": binary, "void": void, "seed": encoder.seed},
        "precision": bits,
    }
    stage = f"segment:{variant_of(images, masks)}" if images and masks else "segment"
    if images and photos and not force:
        expect_same(here, stage, images, lambda record: record["config"]["photos"] == photos.digest)
    job = Job(here, stage, source, config, where, photos)
    results = perform(
        here,
        STAGE,
        variant=stage.partition(":")[2],
        prepare=job.check,
        work=lambda folder, _: job.work(folder),
        config=config,
        inputs=inputs,
        how={"device": str(where), **places(images=images, masks=masks)},
        force=force,
    )
    show(results, _lines(results, here.folder(stage)), json)


def _protocols(words: list[str] | None) -> list[str] | None:
    if not words:
        return None
    asked = [name.strip() for word in words for name in word.split(",") if name.strip()]
    unknown = [name for name in asked if name not in PROTOCOLS]
    if unknown or not asked:
        hint = did_you_mean(unknown[0] if unknown else "", PROTOCOLS)
        raise UsageError(f"--protocol {','.join(words)}: no protocol '{unknown[0] if unknown else ''}', {hint}")
    return [name for name in PROTOCOLS if name in asked]


@dataclass
class Job:
    """One call: every encoder on the same photos. ``check`` comes before ``work``."""

    run: Run
    stage: str
    source: EncoderSource
    config: Result
    device: "torch.device"
    folder: "MaskFolder | None"

    def check(self) -> None:
        """Open photos and encoders, and refuse what cannot be measured with them.

        Raises:
            SslkitError: no masks, no object in them, too few photos for the probe, no attention where it is all that
                was asked for, or weights that do not fit.
        """
        self.photos = self._photos()
        self.photos.check()
        self.parts = self._train_and_test() if "probe" in self.config["protocols"] else None
        self.looks = self._encoders()
        unavailable = self._unavailable()
        if list(unavailable) == self.config["protocols"]:
            raise SslkitError(f"{unavailable['attention']}; try --protocol ncut,probe")

    def _unavailable(self) -> dict[str, str]:
        """Protocols that were asked for and cannot be had, and why."""
        why = next(iter(self.looks.values())).no_attention
        return {"attention": why} if why and "attention" in self.config["protocols"] else {}

    def work(self, folder: Path) -> Result:
        """Measure, draw, write ``results.json`` and ``jaccard.npz``."""
        from sslkit.files import write_json
        from sslkit.plots.segmentation import draw_pictures
        from sslkit.probes.segmentation.results import summarise

        if self.folder is None:
            self.run.remember_data()
        for remark in self.photos.remarks:
            say(remark)
        photos = self.photos
        results: Result = {
            "images": len(photos.names),
            "masks": "binary" if photos.binary else "classes",
            "classes": list(photos.classes),
            "image_size": self.config["image_size"],
            "unavailable": self._unavailable(),
        }
        found = self._objects(photos, self.looks)
        probed = self._probes(self.looks) if self.parts else {}
        results |= summarise(found, probed, photos, self.config["seed"])
        results["pictures"] = draw_pictures(folder, photos, found, results) if found else []
        self._save(folder, photos, found, probed)
        write_json(self.run.results(self.stage), results)
        return results

    def _photos(self) -> "Photos":
        if self.folder is not None:
            return self.folder
        from sslkit.data.shards import open_split
        from sslkit.probes.segmentation.masks_on_disk import MaskedSplit

        return MaskedSplit(open_split(self.run.data, "val"), self.config["count"])

    def _encoders(self) -> dict[str, "PatchTokens"]:
        """The encoder, and beside it the same architecture with random weights."""
        from sslkit.probes.segmentation.patch_tokens import PatchTokens

        baseline = replace(self.source, kind="random", files={}, seed=self.config["seed"])
        sources = {"random": baseline} if self.source.kind == "random" else {"trained": self.source, "random": baseline}
        looks = {}
        for name, source in sources.items():
            size, precision = self.config["image_size"], self.config["precision"]
            built = build(source, self.device, precision)
            looks[name] = PatchTokens(built.encoder, size, self.device, precision, built.mean, built.std)
        return looks

    def _objects(self, photos: "Photos", looks: Mapping[str, "PatchTokens"]) -> dict[str, "Found"]:
        from sslkit.probes.segmentation.protocols import Settings, find_objects

        asked = [name for name in self.config["protocols"] if name != "probe"]
        settings = Settings(asked, self.config["mass"], self.config["tau"], self.config["seed"])
        if not asked:
            return {}
        found = {name: find_objects(photos, look, settings, f"segment: {name}") for name, look in looks.items()}
        rows = next(iter(found.values())).rows
        if len(rows) < len(photos.names):
            say(f"{len(photos.names) - len(rows)} photos without an object count for the probe only")
        return found

    def _train_and_test(self) -> tuple["Part", "Part"]:
        """The halves of a folder, or the prepared splits."""
        from sslkit import rng
        from sslkit.data.shards import open_split
        from sslkit.probes.segmentation.masks_on_disk import MaskedSplit

        photos, images = self.photos, len(self.photos.names)
        if self.folder is None:
            # As many images of train as are judged: more would make the probe slower, not the comparison fairer.
            learnt = MaskedSplit(open_split(self.run.data, "train"), images)
            train, test = (learnt, list(range(len(learnt.names)))), (photos, list(range(images)))
        else:
            order = rng.generator(self.config["seed"], "segment/train-and-test").permutation(images)
            train, test = ((photos, sorted(part.tolist())) for part in (order[: images // 2], order[images // 2 :]))
        if len(train[1]) < 2:
            raise SslkitError(
                f"{images} photos are too few for the probe, which needs four: leave it out of --protocol"
            )
        return train, test

    def _probes(self, looks: Mapping[str, "PatchTokens"]) -> dict[str, "Probed"]:
        from sslkit.probes.segmentation.protocols import probe_patches

        assert self.parts is not None
        return {
            name: probe_patches(*self.parts, look, self.config["seed"], self.device, f"segment: probe, {name}")
            for name, look in looks.items()
        }

    def _save(
        self, folder: Path, photos: "Photos", found: Mapping[str, "Found"], probed: Mapping[str, "Probed"]
    ) -> None:
        """``jaccard.npz``: shares of every photo, by encoder and measure."""
        import numpy as np

        from sslkit.files import atomic

        arrays: dict[str, Any] = {}
        for name, one in found.items():
            arrays["names"] = np.array(photos.names)[one.rows]
            arrays["whole_picture"], arrays["whole_picture_as_one"] = one.whole, one.whole_as_one
            arrays |= {f"{name}_{measure}": values for measure, values in one.scores.items()}
            arrays |= {f"{name}_heads": one.heads} if one.heads is not None else {}
        arrays |= {f"{name}_confusion": one.tables for name, one in probed.items()}
        with atomic(folder / "jaccard.npz") as handle:
            np.savez(handle, **arrays)


def _lines(results: Result, folder: Path) -> list[str]:
    """A table of encoders, with their difference and its 95 % interval, in percent."""
    rows: list[list[Any]] = []
    for protocol, key in {"attention": "jaccard", "ncut": "jaccard", "probe": "miou"}.items():
        if protocol not in results:
            continue
        one = results[protocol]
        measures = list(one["random"]) if protocol == "attention" else [None]
        for measure in measures:
            cells = {name: row[measure] if measure else row for name, row in one.items()}
            title = f"{protocol}: {measure.replace('_', ' ')}" if measure else protocol
            gap = cells.get("difference")
            shown = [f"{cells[name][key]:.1f}" if name in cells else "-" for name in ("trained", "random")]
            interval = "{:+.1f} ({:+.1f} to {:+.1f})".format(gap[key], *gap["interval"]) if gap else "-"
            rows.append([title, "mIoU" if key == "miou" else "Jaccard", *shown, interval])
        if whole := results.get("whole_picture", {}).get(protocol):
            shown = f"{whole['jaccard']:.1f}"
            rows.append([f"{protocol}: the whole picture", "Jaccard", shown, shown, "-"])
    head = f"{results['images']} photos, {results['masks']} masks, shorter side {results['image_size']} pixels, percent"
    remarks = [f"no {name}: {why}" for name, why in results["unavailable"].items()]
    titles = ["protocol", "measure", "trained", "random", "difference (95 % interval)"]
    return [head, *table([titles, *rows]), *remarks, *(str(folder / one["file"]) for one in results["pictures"])]
