"""From a source to shards: read, verify, shrink and pack, in parallel.

The unit of work is a shard: a fixed range of the chosen samples, written by one process sample by sample. So memory
does not grow with the data, the number of processes cannot change a byte, and after an interruption only the missing
shards are written.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from tqdm import tqdm

from sslkit.data import images
from sslkit.data.pixels.rules import RGB, PixelRules
from sslkit.data.pixels.settle import PixelOptions, SettledRules, settle
from sslkit.data.pixels.value_range import value_facts
from sslkit.data.prepare.processes import run_all
from sslkit.data.prepare.subset import Selection, Subset, describe, select
from sslkit.data.prepare.summary import channel_statistics, frame_remarks, see, size_remark, small_remark, split_facts
from sslkit.data.shard_index import is_complete, read_index
from sslkit.data.shards import Record, shard_paths, write_shard
from sslkit.data.sources.base import FetchError, Sample, Source
from sslkit.errors import InterruptedRun, SslkitError
from sslkit.files import atomic, remember_sha256, write_json
from sslkit.rng import generator

SHARD_SAMPLES = 1000


@dataclass(frozen=True)
class ShardJob:
    """One shard to write.

    Attributes:
        path: its tar.
        split: the source's split that the samples are read from.
        indices: their positions in it, (S,).
        labels: their labels, (S,).
    """

    path: Path
    split: str
    indices: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Packer:
    """Writes shards of a source.

    Attributes:
        source: opened.
        rules: by which its images are read.
        size: shorter side in pixels that larger images are shrunk to, or None.
        strict: whether the first unreadable image is an error.
    """

    source: Source
    rules: PixelRules
    size: int | None
    strict: bool

    def __call__(self, job: ShardJob, tick: Callable[[], None]) -> None:
        """Write one shard and its index; ``tick`` is called after every sample and may raise to stop."""
        skipped: list[dict[str, str]] = []
        seen: dict[str, Any] = {}
        try:
            write_shard(job.path, self._records(job, skipped, seen, tick), skipped, seen)
        except OSError as error:
            raise SslkitError(
                f"cannot write {job.path}: {error.strerror or error}; complete shards are kept, "
                "rerun the same command to resume"
            ) from error

    def _records(
        self, job: ShardJob, skipped: list[dict[str, str]], seen: dict[str, Any], tick: Callable[[], None]
    ) -> Iterator[Record]:
        for index, label in zip(job.indices.tolist(), job.labels.tolist(), strict=True):
            try:
                sample = self.source.read(job.split, index)
                values, size = images.read_to_shrink(sample.image, self.rules, self.size)
                # An image that cannot be decoded is found now, not in training.
                image = images.finish(values, self.rules)
                record = _record(sample, image, size, f"{job.split}-{index:08d}", label, self.rules)
                see(seen, sample, image, size, value_facts(values), self.size)
                yield record
            except InterruptedRun:
                raise
            except (SslkitError, OSError) as error:
                skipped.append(self._skip(job.split, index, error))
            tick()

    def _skip(self, split: str, index: int, error: Exception) -> dict[str, str]:
        name = self.source.name(split, index)
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        if self.strict:
            raise SslkitError(f"{name} cannot be read: {reason} (without --strict it is skipped)") from error
        return {"split": split, "image": name, "reason": reason}


def _record(sample: Sample, image: Tensor, size: tuple[int, int], key: str, label: int, rules: PixelRules) -> Record:
    """A sample as it is stored: with its own bytes, unless it must change or its format is not one of a shard's."""
    extension, data, extras = sample.extension, sample.image, dict(sample.extras)
    height, width = size
    if size != image.shape[1:]:
        image = images.shrink(image, size)
        lossy = extension in ("jpg", "webp") and len(image) in (1, RGB)
        extension, data = ("jpg", images.encode_jpeg(image)) if lossy else images.encode_exactly(image)
        masks = [name for name in extras if name.endswith("mask.png")]
        extras |= {name: images.resize_mask(extras[name], height, width) for name in masks}
    elif extension not in ("jpg", "png", "webp") or (rules.span is not None and images.is_wide(data)):
        extension, data = images.encode_exactly(image)
    info = json.dumps({**sample.info, "key": sample.key, "height": height, "width": width}, sort_keys=True)
    return Record(key, label, {**extras, extension: data, "json": info.encode()})


@dataclass(frozen=True)
class PackingPlan:
    """What is to be packed: an open source, and the samples chosen from it.

    Attributes:
        source: opened.
        subset: what was asked for.
        selection: what that is.
        scratch: what the source unpacked or fetched.
        settled: how the images are read.
    """

    source: Source
    subset: Subset
    selection: Selection
    scratch: Path
    settled: SettledRules


NO_OPTIONS = PixelOptions()


def plan(source: Source, subset: Subset, scratch: Path, pixels: PixelOptions = NO_OPTIONS) -> PackingPlan:
    """Open a source and choose its samples.

    Args:
        source: not yet opened.
        subset: which samples.
        scratch: folder for what must be unpacked or fetched first. Complete files in it are used, and survive a killed
            process; it is removed if the source or the subset turns out to be wrong.
        pixels: how its images are to be read.

    Raises:
        SslkitError: the source cannot be read, or does not hold what is asked for.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    try:
        for left in scratch.glob(".*.tmp"):
            left.unlink()
        source.open(scratch)
        selection = select(source.splits(), source.classes, subset)
        return PackingPlan(source, subset, selection, scratch, settle(source, selection, pixels))
    except (KeyboardInterrupt, InterruptedRun, FetchError):
        _remove_empty(scratch)
        raise
    except BaseException:
        shutil.rmtree(scratch)
        raise


def pack(
    folder: Path,
    planned: PackingPlan,
    *,
    size: int | None = None,
    strict: bool = False,
    workers: int = 0,
    eager: bool = True,
    shard_samples: int = SHARD_SAMPLES,
) -> dict[str, Any]:
    """Write what was planned into a folder, or resume where an earlier attempt was killed.

    Args:
        folder: empty, or with what an earlier attempt with the same arguments left.
        planned: what to write; its scratch is removed at the end.
        size: shorter side in pixels that larger images are shrunk to, or None.
        strict: fail at the first unreadable image.
        workers: at most so many processes; 0 works in this one.
        eager: start them at once, and not only where that pays; see ``processes.run_all``.
        shard_samples: chosen samples per shard.

    Returns:
        The manifest, as written to ``manifest.json`` after everything else.

    Raises:
        SslkitError: the disk is full, nothing is left to write.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _remove_parts(folder)
    selection = planned.selection
    jobs = {s: list(_jobs(folder, s, planned, shard_samples)) for s in selection.indices}
    try:
        packer = Packer(planned.source, planned.settled.rules, size, strict)
        _write(packer, [job for found in jobs.values() for job in found], workers, eager)
        manifest, skipped = _summary(jobs, selection, planned.settled)
    except BaseException:
        # Complete shards are kept, and so is what was unpacked or fetched: the next attempt need not repeat it.
        _remove_parts(folder)
        _remove_empty(planned.scratch)
        raise
    if skipped and strict:  # by an earlier attempt without --strict
        raise SslkitError(
            f"{skipped[0]['image']} cannot be read: {skipped[0]['reason']} (without --strict it is skipped)"
        )
    source = type(planned.source).__module__.rpartition(".")[2]
    manifest |= {"size": size, "subset": describe(planned.subset), "source": source, "took": planned.source.took}
    remarks = [*planned.source.remarks, *selection.remarks, *frame_remarks(manifest["splits"])]
    remarks += small_remark(manifest["splits"], size)
    remarks += [*planned.settled.all_remarks(manifest["splits"]), *size_remark(skipped)]
    manifest |= {"remarks": remarks, "left_out": dict(planned.source.left_out.most_common())}
    with atomic(folder / "skipped.jsonl", "w") as handle:
        handle.writelines(json.dumps(entry) + "\n" for entry in skipped)
    write_json(folder / "manifest.json", manifest)
    shutil.rmtree(planned.scratch)
    return manifest


def anything_packed(folder: Path) -> bool:
    """Whether a folder holds a complete shard with an image in it, which another attempt could keep."""
    return any(is_complete(path) and len(read_index(path).keys) for path in folder.glob("*.tar"))


def _remove_parts(folder: Path) -> None:
    for left in folder.glob(".*.tmp"):  # of a killed process: the run's lock excludes that another one is writing
        left.unlink(missing_ok=True)


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _jobs(folder: Path, split: str, planned: PackingPlan, shard_samples: int) -> Iterator[ShardJob]:
    selection = planned.selection
    # Shuffled, so that a reader that streams shard by shard sees all classes.
    order = generator(planned.subset.seed, f"shards.{split}").permutation(len(selection.indices[split]))
    parts = range(0, len(order), shard_samples)
    for path, start in zip(shard_paths(folder, split, len(parts)), parts, strict=True):
        part = order[start : start + shard_samples]
        yield ShardJob(path, selection.read_from[split], selection.indices[split][part], selection.labels[split][part])


def _write(packer: Packer, jobs: list[ShardJob], workers: int, eager: bool) -> None:
    missing = [job for job in jobs if not is_complete(job.path)]
    total = sum(len(job.indices) for job in jobs)
    done = total - sum(len(job.indices) for job in missing)
    # On standard error, and only on a terminal.
    with tqdm(total=total, initial=done, desc="prepare", unit="image", disable=None) as bar:
        run_all(packer, missing, workers, lambda count: bar.update(done + count - bar.n), eager)


def _summary(
    jobs: dict[str, list[ShardJob]], selection: Selection, settled: SettledRules
) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """The manifest's part about the shards, and the images that were left out."""
    splits: dict[str, Any] = {}
    measured: dict[str, list[float]] = {}
    skipped: list[dict[str, str]] = []
    for split, found in jobs.items():
        indexes = [read_index(job.path) for job in found]
        for job, index in zip(found, indexes, strict=True):
            remember_sha256(job.path, index.facts["sha256"])  # hashed while it was written, or when it was resumed
        left_out = [entry for index in indexes for entry in index.facts["skipped"]]
        shards = [
            {
                "file": job.path.name,
                "bytes": index.facts["bytes"],
                "sha256": index.facts["sha256"],
                "samples": len(index.keys),
            }
            for job, index in zip(found, indexes, strict=True)
        ]
        samples = sum(shard["samples"] for shard in shards)
        if not samples:
            first = f"{left_out[0]['image']}: {left_out[0]['reason']}"
            raise SslkitError(f"none of the {len(left_out)} images of {split} can be read; the first: {first}")
        labelled = any(bool((index.labels >= 0).any()) for index in indexes)
        facts = split_facts(indexes, selection.classes)
        measured = channel_statistics(indexes) if split == "train" else measured
        splits[split] = {"samples": samples, "labelled": labelled, **facts, "shards": shards}
        skipped += left_out
    digests = "".join(shard["sha256"] for split in splits.values() for shard in split["shards"])
    fingerprint = hashlib.sha256(f"{digests}{settled.as_text()}".encode()).hexdigest()
    manifest = {"classes": selection.classes, "splits": splits, "skipped": len(skipped), "fingerprint": fingerprint}
    return {**manifest, **settled.facts(), **measured}, skipped
