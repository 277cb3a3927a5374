"""``sslkit prepare``: a source of images becomes shards with an index."""

import hashlib
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from sslkit import registry
from sslkit.errors import InterruptedRun, SslkitError, UsageError, did_you_mean
from sslkit.workers import worker_count
from stages.contract.layout import DATA, Result, Run, open_run
from stages.contract.lock import held, missing
from stages.contract.output import show
from stages.contract.perform import perform
from stages.contract.stage import Stage
from stages.options.basic import ForceOption, JsonOption, RunArgument, SeedOption, WorkersOption

if TYPE_CHECKING:
    from sslkit.data.prepare.subset import Subset
    from sslkit.data.sources.base import Source

SOURCES = "sslkit.data.sources"
SCRATCH = ".scratch"
SourceOption = Annotated[
    str, typer.Option("--source", help=f"{', '.join(registry.names(SOURCES))}; or a path, short for folder.")
]
RootOption = Annotated[
    Optional[str],  # noqa: UP045  typer reads the annotation at run time on Python 3.10
    typer.Option("--root", metavar="PATH", help="Where it is: folder, archive or URL.", show_default=False),
]
FractionOption = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option("--fraction", help="Share of every class of train, such as 0.2.", show_default=False),
]
PerClassOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--per-class", metavar="N", help="Images of every class of train.", show_default=False),
]
ClassesOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--classes", metavar="N|FILE", help="A number, or a file of one name a line.", show_default=False),
]
SizeOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--size", min=1, metavar="PX", help="Shrink to this shorter side.", show_default=False),
]
ValFractionOption = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option("--val-fraction", help="Hold out a val split where there is none.", show_default=False),
]
StrictOption = Annotated[bool, typer.Option("--strict", help="Fail at the first unreadable image.")]


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
def prepare(
    run: RunArgument,
    source: SourceOption = "shapes",
    root: RootOption = None,
    fraction: FractionOption = None,
    per_class: PerClassOption = None,
    classes: ClassesOption = None,
    size: SizeOption = None,
    val_fraction: ValFractionOption = None,
    strict: StrictOption = False,
    seed: SeedOption = 0,
    workers: WorkersOption = "auto",
    json: JsonOption = False,
    force: ForceOption = False,
) -> None:
    """Pack images into WebDataset shards with an index, or a class-balanced subset of them."""
    name, root = _source(source, root)
    processes = worker_count(workers)

    from sslkit.data.prepare.subset import Subset, describe
    from sslkit.data.sources.base import Source

    subset = Subset(fraction, per_class, _classes(classes), val_fraction, seed)
    kind: type[Source] = registry.load(SOURCES, name)
    images = kind(root, seed)
    here, content = open_run(run), images.fingerprint()
    job = Job(here, images, subset, content, size, strict, processes, workers != "auto")
    made = missing(here.path)
    try:
        results = perform(
            here,
            STAGE,
            prepare=job.check,
            work=lambda folder, _: job.work(folder),
            config={"source": name, "content": content, "size": size, "subset": describe(subset)},
            inputs={},
            how={"root": root, "workers": workers, "strict": strict},
            force=force,
        )
    except InterruptedRun:
        raise
    except Exception:
        if job.begun:
            _forget_failure(here, made)
        raise
    show(results, _lines(results), json)


@dataclass
class Job:
    """One call. ``check`` comes before ``work``."""

    run: Run
    images: "Source"
    subset: "Subset"
    content: str
    size: int | None
    strict: bool
    workers: int
    eager: bool
    begun: bool = False

    def check(self) -> None:
        """Open the source and choose, in a scratch folder beside the data, for what was prepared may still be kept.

        Raises:
            SslkitError: the source cannot be read, or does not hold what is asked for.
        """
        from sslkit.data.prepare.packing import plan

        # Named by the source's content, so that what a killed try unpacked of another one is not taken for this one's.
        digest = hashlib.sha256(f"{type(self.images).__name__} {self.content}".encode()).hexdigest()
        scratch = self.run.path / f"{SCRATCH}-{digest[:16]}"
        for left in self.run.path.glob(f"{SCRATCH}-*"):
            if left != scratch:
                shutil.rmtree(left)
        self.plan = plan(self.images, self.subset, scratch)

    def work(self, folder: Path) -> Result:
        """Pack."""
        from sslkit.data.prepare.packing import pack

        self.begun = True
        how = {"strict": self.strict, "workers": self.workers, "eager": self.eager}
        return _results(pack(folder, self.plan, size=self.size, **how))


def _forget_failure(run: Run, made: Sequence[Path]) -> None:
    """Of a try that packed nothing, leave nothing."""
    from sslkit.data.prepare.packing import anything_packed

    with suppress(SslkitError, OSError), held(run.path, "prepare", made):
        if not run.manifest.exists() and not anything_packed(run.own_data):
            shutil.rmtree(run.own_data)


def _source(source: str, root: str | None) -> tuple[str, str | None]:
    """(name, root); a path in the place of the name is a folder."""
    known = registry.names(SOURCES)
    if source.replace("-", "_") in known:
        return source.replace("-", "_"), root
    if root is None and Path(source).expanduser().exists():
        return "folder", source
    raise UsageError(f"--source {source} is neither a source nor a path that exists: {did_you_mean(source, known)}")


def _classes(text: str | None) -> int | tuple[str, ...] | None:
    """A number of classes, or the names in a file."""
    if text is None or text.isdecimal():
        return int(text) if text else None
    try:
        lines = Path(text).expanduser().read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--classes {text} is neither a number nor a file of class names ({error})") from error
    return tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))


def _results(manifest: dict[str, Any]) -> dict[str, Any]:
    splits = {f"{split}": facts["samples"] for split, facts in manifest["splits"].items()}
    return {
        "source": manifest["source"],
        **splits,
        "classes": len(manifest["classes"]),
        "labelled": {split: facts["labelled"] for split, facts in manifest["splits"].items()},
        "megabytes": round(sum(s["bytes"] for f in manifest["splits"].values() for s in f["shards"]) / 1e6, 1),
        "skipped": manifest["skipped"],
        "fingerprint": manifest["fingerprint"],
    }


def _lines(results: dict[str, Any]) -> list[str]:
    labels = f"{results['classes']} classes" if results["classes"] else "no labels"
    lines = [f"{split:<6} {results[split]} images" for split in ("train", "val") if split in results]
    if "val" not in results:
        lines.append("val    none (--val-fraction 0.1 holds one out)")
    lines.append(f"source {results['source']}, {labels}, {results['megabytes']} MB")
    where = " (data/skipped.jsonl says which and why)" if results["skipped"] else ""
    return [*lines, f"skipped {results['skipped']} unreadable images{where}"]
