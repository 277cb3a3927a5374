"""``sslkit prepare``: a source of images becomes shards with an index."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sslkit import registry
from sslkit.errors import InterruptedRun, SslkitError, UsageError, number_of
from sslkit.workers import worker_count
from stages.contract.layout import DATA, Result, Run, open_run
from stages.contract.lock import held, missing
from stages.contract.output import show
from stages.contract.perform import OtherSettingsError, perform
from stages.contract.stage import Stage
from stages.options.basic import MaxPixelsOption, ResultOptions, SeedOption, WorkersOption
from stages.options.source import GENERATED, SOURCES, chosen_classes, find_source, read_as

if TYPE_CHECKING:
    from sslkit.data.pixels.settle import PixelOptions
    from sslkit.data.prepare.packing import PackingPlan
    from sslkit.data.prepare.subset import Subset
    from sslkit.data.sources.base import Source

SCRATCH = ".scratch"

STAGE = Stage(
    name="prepare",
    help="Pack images into WebDataset shards.",
    order=10,
    folder=DATA,
    expected=True,
    home="data",
    requires="--source ...",
)


@STAGE.command
@dataclass(kw_only=True)
class Prepare(ResultOptions):
    """Pack images into WebDataset shards with an index, or a class-balanced subset of them.

    --source PATH recognises class folders (train, val and test in any case), flat folders, a .tar, .tar.gz or .zip of
    them; ImageNet (the official archives, extracted, or Kaggle's), Tiny-ImageNet, STL-10's binaries, parquet files and
    WebDataset shards. --source NAME --root PATH takes one by its name. It says what it assumed and left out.
    """

    source: Annotated[
        str | None,
        typer.Option(
            "--source",
            help=f"A path, whose layout is recognised; or one of {', '.join(registry.names(SOURCES))}. "
            f"Default: {GENERATED}, which are generated.",
            show_default=False,
        ),
    ] = None
    root: Annotated[
        str | None,
        typer.Option("--root", metavar="PATH", help="Where it is: folder, archive or URL.", show_default=False),
    ] = None
    label_key: Annotated[
        str | None,
        typer.Option(
            "--label-key", metavar="KEY", help="Where labels are in shards' json, or in parquet.", show_default=False
        ),
    ] = None
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            metavar="FILE[:COLUMN]",
            help="A table of image files and their classes; default: found next to the images.",
            show_default=False,
        ),
    ] = None
    fraction: Annotated[
        float | None,
        typer.Option("--fraction", help="Share of every class of train, such as 0.2.", show_default=False),
    ] = None
    per_class: Annotated[
        int | None,
        typer.Option("--per-class", metavar="N", help="Images of every class of train.", show_default=False),
    ] = None
    classes: Annotated[
        str | None,
        typer.Option("--classes", metavar="N|FILE", help="A number, or a file of one name a line.", show_default=False),
    ] = None
    size: Annotated[
        int | None,
        typer.Option("--size", min=1, metavar="PX", help="Shrink to this shorter side.", show_default=False),
    ] = None
    channels: Annotated[
        int | None,
        typer.Option(
            "--channels",
            metavar="N",
            help="Channels that are kept; default: 3, or those of arrays.",
            show_default=False,
        ),
    ] = None
    range: Annotated[
        str | None,
        typer.Option(
            "--range",
            metavar="auto|full|LO,HI",
            help="Values of 16-bit, 32-bit and float images that become black and white; default: all 16 bits.",
            show_default=False,
        ),
    ] = None
    max_pixels: MaxPixelsOption = None
    val_fraction: Annotated[
        float | None,
        typer.Option(
            "--val-fraction",
            help="Share held out as val where there is none, 0 for no val; default: 0.1.",
            show_default=False,
        ),
    ] = None
    subset_val: Annotated[bool, typer.Option("--subset-val", help="Also cut val by --fraction or --per-class.")] = False
    strict: Annotated[bool, typer.Option("--strict", help="Fail at the first unreadable image.")] = False
    seed: SeedOption = 0
    workers: WorkersOption = "auto"

    def execute(self) -> None:
        """Pack, and print what was packed."""
        name, root, took = find_source(self.source, self.root)
        processes = worker_count(self.workers)

        from sslkit.data.pixels.rules import MAX_PIXELS
        from sslkit.data.pixels.settle import PixelOptions
        from sslkit.data.prepare.subset import Subset, describe

        subset = Subset(
            self.fraction, self.per_class, chosen_classes(self.classes), self.val_fraction, self.seed, self.subset_val
        )
        images: Source = registry.load(SOURCES, name)(root, self.seed)
        images.took, images.label_key, images.labels = took, self.label_key, self.labels or ""
        if self.root and not images.takes_root:
            raise UsageError(f"the source '{name}' takes no --root: --source {self.root} recognises what it holds")
        if self.labels and not images.takes_labels:
            raise UsageError(f"--labels goes with a folder of images; the source '{name}' has labels of its own")
        pixels = PixelOptions(self.range or "", self.channels, self.max_pixels or MAX_PIXELS)
        with read_as(name, root):
            run, content = open_run(self.run), images.fingerprint()
        created, began = missing(run.path), []

        def pack(folder: Path, planned: "PackingPlan") -> Result:
            from sslkit.data.prepare.packing import pack

            began.append(folder)
            eager = self.workers != "auto"
            return _results(pack(folder, planned, size=self.size, strict=self.strict, workers=processes, eager=eager))

        try:
            results = perform(
                run,
                STAGE,
                prepare=lambda: _plan(run, name, images, subset, content, pixels),
                work=pack,
                config={
                    "source": name,
                    "content": content,
                    "size": self.size,
                    "subset": describe(subset),
                    **self._given(),
                },
                inputs={},
                how={"root": root, "workers": self.workers, "strict": self.strict},
                force=self.force,
            )
        except InterruptedRun:
            raise
        except OtherSettingsError:
            _name_mistakes(images, subset)
            raise
        except Exception:
            if began:
                _forget_failure(run, created)
            raise
        show(results, _lines(results), self.json)

    def _given(self) -> dict[str, Any]:
        """Settings that are recorded where they are given."""
        names = ("label_key", "labels", "range", "channels", "max_pixels")
        return {name: getattr(self, name) for name in names if getattr(self, name)}


def _plan(
    run: Run, name: str, images: "Source", subset: "Subset", content: str, pixels: "PixelOptions"
) -> "PackingPlan":
    """Open the source and choose. The scratch folder is next to the data, which may be kept after all.

    Raises:
        SslkitError: the source cannot be read, or does not hold what is asked for.
    """
    from sslkit.data.prepare.packing import plan

    # Named after the source's content: what an interrupted attempt unpacked from another source is not used.
    digest = hashlib.sha256(os.fsencode(f"{type(images).__name__} {content}")).hexdigest()
    scratch = run.path / f"{SCRATCH}-{digest[:16]}"
    for left in run.path.glob(f"{SCRATCH}-*"):
        if left != scratch:
            shutil.rmtree(left)
    with read_as(name, images.root):
        return plan(images, subset, scratch, pixels)


def _name_mistakes(images: "Source", subset: "Subset") -> None:
    """Find what is wrong with the source or the choice before the advice to redo the data with them.

    Only in a folder, where that is fast: nothing is unpacked or fetched.

    Raises:
        SslkitError: the folder of images, its labels or the subset is wrong.
    """
    from sslkit.data.prepare.subset import select

    if images.takes_labels and images.root and Path(images.root).expanduser().is_dir():
        with tempfile.TemporaryDirectory() as scratch:
            images.open(Path(scratch))
            select(images.splits(), images.classes, subset)


def _forget_failure(run: Run, created: Sequence[Path]) -> None:
    """Remove what an attempt that packed nothing left, the folders that it created included."""
    from sslkit.data.prepare.packing import anything_packed

    with suppress(SslkitError, OSError), held(run.path, STAGE.name, created):
        if not run.manifest.exists() and not anything_packed(run.own_data):
            shutil.rmtree(run.own_data)


def _results(manifest: dict[str, Any]) -> dict[str, Any]:
    splits = {f"{split}": facts["samples"] for split, facts in manifest["splits"].items()}
    return {
        "source": manifest["source"],
        "took": manifest["took"],
        **splits,
        "splits": {
            split: {key: value for key, value in facts.items() if key != "shards"}
            for split, facts in manifest["splits"].items()
        },
        "classes": len(manifest["classes"]),
        "labelled": {split: facts["labelled"] for split, facts in manifest["splits"].items()},
        "megabytes": round(sum(s["bytes"] for f in manifest["splits"].values() for s in f["shards"]) / 1e6, 1),
        "skipped": manifest["skipped"],
        "left_out": manifest["left_out"],
        "remarks": manifest["remarks"],
        "fingerprint": manifest["fingerprint"],
    }


def _lines(results: dict[str, Any]) -> list[str]:
    from sslkit.data.prepare.summary import split_line

    count = results["classes"]
    labels = f"{count} class{'' if count == 1 else 'es'}" if count else "no labels"
    lines = [f"source {results['source']}" + (f": {results['took']}" if results.get("took") else "")]
    lines += [split_line(split, facts) for split, facts in results.get("splits", {}).items()]
    lines.append(f"{labels}, {results['megabytes']} MB")
    lines += [f"note   {remark}" for remark in results.get("remarks", [])]
    if results["skipped"]:
        skipped = number_of(results["skipped"], "image")
        lines.append(f"{skipped} that cannot be read skipped (data/skipped.jsonl says which and why)")
    left = results.get("left_out", {})
    if left:
        kinds, count = ", ".join(f"{count} {kind}" for kind, count in left.items()), sum(left.values())
        lines.append(f"{number_of(count, 'file')} left out: {kinds}")
    return lines
