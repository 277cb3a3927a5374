"""``sslkit extract``: frozen features of every prepared image, with where they come from."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from stages.contract.layout import FEATURES, Result, Run
from stages.contract.output import say, show, table
from stages.contract.perform import nothing, perform
from stages.contract.record import fingerprints
from stages.contract.stage import Stage
from stages.inputs.encoder import EncoderSource, load
from stages.options.basic import ForceOption, JsonOption, PatchSizeOption, RunArgument, WorkersOption
from stages.options.encoder import EncoderChoice, takes_features

if TYPE_CHECKING:
    import torch

    from sslkit.distributed.process_group import World
    from sslkit.probes.features.extraction import Embedding

SPLITS = ("train", "val")


STAGE = Stage(name="extract", help="Write frozen features of train and val.", order=30, folder=FEATURES, expected=True)


@STAGE.command
@takes_features
def extract(
    run: RunArgument,
    encoder: EncoderChoice,
    image_size: Annotated[
        Optional[int],  # noqa: UP045  typer reads the annotation at run time on Python 3.10
        typer.Option("--image-size", min=1, help="Pixels; default: the trained encoder's, 224, or 32 for pixels."),
    ] = None,
    patch_size: PatchSizeOption = None,
    last_blocks: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--last-blocks", min=1, help="Keep the CLS of so many blocks; default: 4, or all of fewer."),
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Images per forward pass.")] = 64,
    workers: WorkersOption = "auto",
    json: JsonOption = False,
    force: ForceOption = False,
) -> None:
    """Write the features of train and val; under torchrun each process does its share.

    Baselines go to a run of their own: `sslkit extract runs/random --like runs/a --weights random`.
    """
    here = encoder.open(run)
    source = encoder.source(here, image_size, patch_size)
    here.need(here.manifest)

    from sslkit.distributed.process_group import from_leader, process_group
    from sslkit.workers import worker_count

    where, bits = encoder.place()
    config = {
        **source.config(),
        "last_blocks": last_blocks,
        "batch_size": batch_size,
        "precision": bits,
    }
    inputs = {"data": here.manifest, **source.files}
    # Processes only tell each other what to do, which gloo does on any device; a share of the work may take days.
    with process_group(patience=timedelta(days=7)) as world:
        job = Job(here, source, config, inputs, world, where, worker_count(workers, where))
        if not world.leads:
            job.follow()
            return
        try:
            results = perform(
                here,
                STAGE,
                prepare=nothing,
                work=lambda folder, _: job.lead(folder),
                config=config,
                inputs=inputs,
                how={"device": str(where), "workers": workers, "processes": world.size},
                force=force,
            )
        finally:
            with suppress(RuntimeError):  # a process that died has closed its connection
                from_leader(None)  # whatever happened here, the others stop waiting
    show(results, _lines(results), json)


@dataclass
class Job:
    """The work of one process: the first leads, the others follow."""

    run: Run
    source: EncoderSource
    config: Result
    inputs: Mapping[str, Path]
    world: "World"
    device: "torch.device"
    workers: int

    def lead(self, folder: Path) -> Result:
        """Write both splits, then ``features.json``."""
        import numpy as np

        from sslkit.distributed.process_group import from_leader
        from sslkit.files import atomic, sha256, write_json
        from sslkit.probes.features.extraction import row_shapes

        for litter in folder.rglob(".*.tmp"):  # of a try that was killed while it wrote a small file
            litter.unlink()
        self.run.remember_data()
        splits = {name: self._images(name) for name in SPLITS}
        embedding, about = self._build()
        shapes, key = row_shapes(embedding), self._key()
        facts: Result = {**self.config, **about, "splits": {}, "files": {}}
        finished = []
        for name, images in splits.items():
            arrays = self._arrays(name, shapes, len(images))
            self._share(name, embedding, shapes, from_leader((name, arrays.prepare(key)))[1])
            arrays.finish()
            finished.append(arrays)
            with atomic(self.run.feature(name, "labels")) as handle:
                np.save(handle, images.labels.astype("<i8"))
            facts["splits"][name] = {"images": len(images), "labelled": int((images.labels >= 0).sum())}
            for array, shape in {"labels": (), **shapes}.items():
                path = self.run.feature(name, array)
                facts["files"][f"{name}/{path.name}"] = {"shape": [len(images), *shape], "sha256": sha256(path)}
        write_json(self.run.features_info, facts)
        for arrays in finished:
            arrays.forget()
        return {"weights": self.source.kind, "width": shapes["cls"][0], **facts["splits"]}

    def follow(self) -> None:
        """Do shares of what the leader says, until it says None."""
        from sslkit.distributed.process_group import from_leader
        from sslkit.probes.features.extraction import row_shapes

        built: tuple[Any, Any] | None = None
        nothing: Any = None
        while (order := from_leader(nothing)) is not None:
            name, batches = order
            if built is None:
                embedding, _ = self._build()
                built = embedding, row_shapes(embedding)
            self._share(name, *built, batches)

    def _share(self, name: str, embedding: "Embedding", shapes: Mapping[str, Any], batches: list[int]) -> None:
        from sslkit.distributed.process_group import barrier
        from sslkit.probes.features.extraction import extract_batches

        images = self._images(name)
        arrays = self._arrays(name, shapes, len(images))
        title = "" if self.world.rank else f"extract {name}"
        extract_batches(images, embedding, arrays, self.world.share(batches), self.workers, title)
        barrier()

    def _images(self, name: str) -> Any:
        from sslkit.data.shards import open_split

        return open_split(self.run.data, name)

    def _arrays(self, name: str, shapes: Mapping[str, Any], rows: int) -> Any:
        from sslkit.probes.features.resumable_arrays import PartialArrays

        files = {array: self.run.feature(name, array) for array in shapes}
        return PartialArrays(files, shapes, rows, self.config["batch_size"])

    def _key(self) -> str:
        """All that the bytes of the features depend on, so that an interrupted try is only gone on with by its like."""
        import hashlib
        import json

        read = {name: facts["sha256"] for name, facts in fingerprints(self.inputs, self.run.path).items()}
        facts = {"config": self.config, "inputs": read, "device": self.device.type}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def _build(self) -> tuple["Embedding", Result]:
        """What makes the features, and what ``features.json`` says about it."""
        from sslkit.probes.features.extraction import EncoderEmbedding, PixelEmbedding

        if self.source.spec is None:
            return PixelEmbedding(self.source.image_size, self.device), {}
        frozen, coverage = load(self.source, self.device, self.config["precision"])
        if coverage and not self.world.rank and self.source.kind == "file":
            say(coverage.line())
        keys = {"keys": coverage.as_json()} if coverage else {}
        about = {"width": frozen.encoder.width, "mean": list(frozen.mean), "std": list(frozen.std), **keys}
        return EncoderEmbedding(frozen, self.config["last_blocks"]), about


def _lines(results: Result) -> list[str]:
    rows = [[name, results[name]["images"], results[name]["labelled"], results["width"]] for name in SPLITS]
    return table([["split", "images", "labelled", "width"], *rows])
