"""``sslkit extract``: frozen features of every prepared image, and which encoder they come from."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stages.contract.layout import FEATURES, Result, Run
from stages.contract.output import say, show, table
from stages.contract.perform import perform
from stages.contract.record import fingerprints
from stages.contract.stage import Stage
from stages.inputs.encoder import EncoderSource, data_channels, load, resolve
from stages.inputs.enlarging import say_enlarged
from stages.inputs.features.splits import SPLITS
from stages.options.basic import PatchSizeOption, ResultOptions, WeightsOption, WorkersOption
from stages.options.encoder import EncoderOptions

if TYPE_CHECKING:
    import torch

    from sslkit.distributed.process_group import World
    from sslkit.probes.features.extraction import Embedding

STAGE = Stage(
    name="extract",
    help="Write frozen features of train and val.",
    order=30,
    folder=FEATURES,
    expected=True,
    shared=True,
)


@STAGE.command
@dataclass(kw_only=True)
class Extract(EncoderOptions, ResultOptions):
    """Write the features of train and val; under torchrun each process does its share.

    Baselines go to a run of their own: `sslkit extract runs/random --like runs/a --weights random`.
    """

    weights: WeightsOption = None
    image_size: Annotated[
        int | None,
        typer.Option("--image-size", min=1, help="Pixels; default: the trained encoder's, 224, or 32 for pixels."),
    ] = None
    patch_size: PatchSizeOption = None
    last_blocks: Annotated[
        int | None,
        typer.Option("--last-blocks", min=1, help="Keep the CLS of the last N blocks; default: 4, or all of fewer."),
    ] = None
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Images per forward pass.")] = 64
    workers: WorkersOption = "auto"

    def execute(self) -> None:
        """Extract, and print how many features there are."""
        run = self.open_run()
        source = resolve(run, self, self.image_size, self.patch_size)
        run.need(run.manifest)

        from sslkit.distributed.process_group import from_leader, process_group
        from sslkit.workers import worker_count

        device, precision = self.place()
        config = {
            **source.config(),
            "last_blocks": self.last_blocks,
            "batch_size": self.batch_size,
            "precision": precision,
        }
        inputs = {"data": run.manifest, **source.files}
        # Processes only exchange orders, for which gloo serves on any device.
        with process_group(task=f"extract {run.path.resolve()}", say=say) as world:
            extraction = Extraction(run, source, config, inputs, world, device, worker_count(self.workers, device))
            if not world.leads:
                extraction.follow()
                return
            try:
                results = perform(
                    run,
                    STAGE,
                    prepare=extraction.prepare,
                    work=extraction.lead,
                    config=config,
                    inputs=inputs,
                    how={"device": self.place_described(), "workers": self.workers, "processes": world.size},
                    force=self.force,
                )
            finally:
                with suppress(RuntimeError):  # a process that died has closed its connection
                    from_leader(None)  # whatever happened here, the others stop waiting
        show(results, _lines(results), self.json)


@dataclass(frozen=True)
class Opened:
    """What the leader has checked: images by split, the embedding, the shapes of its rows, and what is recorded."""

    splits: Mapping[str, Any]
    embedding: "Embedding"
    shapes: Mapping[str, Any]
    about: Result


@dataclass(frozen=True)
class Extraction:
    """The share of one process: the first leads, the others follow and never touch the run's record."""

    run: Run
    source: EncoderSource
    config: Result
    inputs: Mapping[str, Path]
    world: "World"
    device: "torch.device"
    workers: int

    def prepare(self) -> "Opened":
        """Open the images and the encoder, and encode one image: features that exist are not thrown away before that.

        Raises:
            SslkitError: the data is damaged, or the weights do not fill the encoder.
        """
        from sslkit.probes.features.extraction import row_shapes

        splits = {name: self._images(name) for name in self.run.prepared()["splits"]}
        embedding, about = self._build()
        say_enlarged(self.run, self.source.image_size, list(splits))
        return Opened(splits, embedding, row_shapes(embedding), about)

    def lead(self, folder: Path, opened: "Opened") -> Result:
        """Write the splits that there are, then ``features.json``."""
        import numpy as np

        from sslkit.distributed.process_group import from_leader
        from sslkit.files import atomic, sha256, write_json

        self.run.remember_data()
        splits, embedding, shapes, about = opened.splits, opened.embedding, opened.shapes, opened.about
        key = self._key()
        facts: Result = {**self.config, **about, "splits": {}, "files": {}}
        finished = []
        for name, images in splits.items():
            arrays = self._arrays(name, shapes, len(images))
            self._share(name, embedding, shapes, from_leader((name, arrays.prepare(key)))[1])
            arrays.finish()
            finished.append(arrays)
            with atomic(self.run.feature(name, "labels")) as handle:
                np.save(handle, images.labels.astype("<i8"))
            with atomic(self.run.samples(name), "w") as handle:
                handle.writelines(json.dumps(row) + "\n" for row in _samples(images))
            facts["splits"][name] = {"images": len(images), "labelled": int((images.labels >= 0).sum())}
            for array, shape in {"labels": (), **shapes}.items():
                path = self.run.feature(name, array)
                facts["files"][f"{name}/{path.name}"] = {"shape": [len(images), *shape], "sha256": sha256(path)}
        write_json(self.run.features_info, facts)
        for arrays in finished:
            arrays.forget()
        return {"weights": self.source.kind, "width": shapes["cls"][0], **facts["splits"]}

    def follow(self) -> None:
        """Compute a share of each split that the leader names, until it sends None."""
        from sslkit.distributed.process_group import from_leader
        from sslkit.probes.features.extraction import row_shapes

        built: tuple[Any, Any] | None = None
        no_message: Any = None
        while (order := from_leader(no_message)) is not None:
            name, batches = order
            if built is None:
                embedding, _ = self._build()
                built = embedding, row_shapes(embedding)
            self._share(name, *built, batches)

    def _share(self, name: str, embedding: "Embedding", shapes: Mapping[str, Any], batches: list[int]) -> None:
        from sslkit.distributed.process_group import barrier, relax
        from sslkit.probes.features.extraction import extract_batches

        images = self._images(name)
        arrays = self._arrays(name, shapes, len(images))
        title = "" if self.world.rank else f"extract {name}"
        extract_batches(images, embedding, arrays, self.world.share(batches), self.workers, title)
        barrier()
        relax(f"extracting {name}")  # the first process alone finishes the files

    def _images(self, name: str) -> Any:
        from sslkit.data.shards import open_split

        return open_split(self.run.data, name)

    def _arrays(self, name: str, shapes: Mapping[str, Any], rows: int) -> Any:
        from sslkit.probes.features.resumable_arrays import PartialArrays

        files = {array: self.run.feature(name, array) for array in shapes}
        return PartialArrays(files, shapes, rows, self.config["batch_size"])

    def _key(self) -> str:
        """A SHA-256 of all that the features depend on: an interrupted attempt is resumed only under the same key."""
        read = {name: facts["sha256"] for name, facts in fingerprints(self.inputs, self.run.path).items()}
        facts = {"config": self.config, "inputs": read, "device": self.device.type}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def _build(self) -> tuple["Embedding", Result]:
        """The embedding, and what ``features.json`` says about it."""
        from sslkit.probes.features.extraction import EncoderEmbedding, PixelEmbedding

        if self.source.spec is None:
            return PixelEmbedding(self.source.image_size, self.device, data_channels(self.run)), {}
        frozen, coverage = load(self.source, self.device, self.config["precision"])
        if coverage and not self.world.rank and self.source.kind == "file":
            say(coverage.line())
        keys = {"keys": coverage.as_json()} if coverage else {}
        about = {"width": frozen.encoder.width, "mean": list(frozen.mean), "std": list(frozen.std), **keys}
        return EncoderEmbedding(frozen, self.config["last_blocks"]), about


def _samples(images: Any) -> Iterator[Result]:
    """What each row is: the file's name in its source, its key in the shards, its label and class."""
    for i, label in enumerate(images.labels.tolist()):
        named = {"class": images.classes[label]} if label >= 0 else {}
        yield {"name": images.own_name(i), "key": images.key(i), "label": label, **named}


def _lines(results: Result) -> list[str]:
    there = [name for name in SPLITS if name in results]
    rows = [[name, results[name]["images"], results[name]["labelled"], results["width"]] for name in there]
    return table([["split", "images", "labelled", "width"], *rows])
