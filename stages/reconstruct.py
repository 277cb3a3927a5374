"""`sslkit reconstruct RUN`: what a masked autoencoder paints in the place of what it is not shown."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from sslkit.errors import SslkitError, UsageError
from stages.contract.layout import Result, Run, transferred
from stages.contract.output import show
from stages.contract.perform import perform
from stages.contract.stage import Stage
from stages.inputs.images import class_of, expect_images, find_photos, in_turns, photos_stage, read_photos
from stages.inputs.photo_folders import places
from stages.options.basic import (
    DataOption,
    Device,
    DeviceOption,
    ForceOption,
    JsonOption,
    PhotosOption,
    Precision,
    PrecisionOption,
    RunArgument,
    SeedOption,
)

if TYPE_CHECKING:
    import torch

    from sslkit.data.shards import Split
    from sslkit.methods.mae import MaskedAutoencoder
    from sslkit.probes.inspect.reconstruction import InputImage, Reconstructions
    from sslkit.recipe.schema import Recipe

DEFAULT_COUNT = 8
JUDGED = 256  # val images that the error is a mean of: eight would say little
BATCH = 32
SHEET, ARRAYS = "reconstructions.png", "reconstructions.npz"


STAGE = Stage(name="reconstruct", help="Draw what an MAE reconstructs.", order=110, folder="reconstruct")


@STAGE.command
def reconstruct(
    run: RunArgument,
    images: PhotosOption = None,
    count: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--count", min=1, help="How many are drawn; default 8 of val, or all of --images."),
    ] = None,
    ratio: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--ratio", min=0.0, max=1.0, help="Share that is removed; default: the recipe's."),
    ] = None,
    data: DataOption = None,
    device: DeviceOption = Device.auto,
    precision: PrecisionOption = Precision.auto,
    seed: SeedOption = 0,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Draw what an MAE sees, paints, and should have painted; the error is a mean over 256 images of val.

    One's own photos (--images) are drawn beside those of val, in reconstruct-NAME by the name of their folder.
    """
    here = transferred(run, data)
    recipe = viewing_recipe(here, ratio, seed)
    inputs = {"recipe": here.recipe, "checkpoint": here.trained.need(here.checkpoint)}
    photos = find_photos(images, count) if images is not None else None
    if photos is None:
        inputs["data"] = here.need(here.manifest)
    else:
        inputs |= {f"photo {name}": path for name, path in photos.items()}

    from sslkit.device import pick_device, resolve_precision

    where = pick_device(device.value)
    config: Result = {
        "images": "val" if photos is None else "photos",
        "count": (count or DEFAULT_COUNT) if photos is None else len(photos),
        "ratio": _mask(recipe).ratio[0],
        "seed": seed,
        "precision": resolve_precision(precision.value, where),
    }

    stage = photos_stage(here, "reconstruct", images, inputs, force)
    job = Job(here, recipe, config, where, images, photos)
    results = perform(
        here,
        STAGE,
        variant=stage.partition(":")[2],
        prepare=job.check,
        work=lambda folder, _: job.work(folder),
        config=config,
        inputs=inputs,
        how={"device": str(where), **places(images=images)},
        force=force,
    )
    sheet = here.folder(stage) / SHEET
    lines = [
        f"error {results['error']:.3f} ({results['unit']}), mean of {results['judged']} images; "
        f"patches of one colour: {results['flat_error']:.3f}",
        f"{results['images']} images, {100 * results['removed']:.0f} % removed: {sheet}",
    ]
    show(results, lines, as_json)


@dataclass
class Job:
    """One call. ``check`` comes before ``work``."""

    run: Run
    recipe: "Recipe"
    config: Result
    device: "torch.device"
    images: Path | None
    photos: Mapping[str, Path] | None

    def check(self) -> None:
        """Open the model, and paint one image.

        Raises:
            SslkitError: no image, a checkpoint that does not fit, or masks that cannot be drawn.
        """
        import torch

        from sslkit.probes.inspect.reconstruction import InputImage, reconstruct

        expect_images(self.run, self.images, self.photos)
        self.method = open_painter(self.run, self.recipe, self.device)
        blank = InputImage("", torch.zeros(3, self.size, self.size, dtype=torch.uint8), 0)
        reconstruct(self.method, [blank if self.photos is not None else next(self._shown())], self.config["precision"])

    def work(self, folder: Path) -> Result:
        """Paint, draw, write."""
        self.run.remember_data()
        return _draw(self.method, self._shown(), self.config, folder)

    @property
    def size(self) -> int:
        """Of the crops, in pixels."""
        return self.recipe.views.global_.size or self.recipe.encoder.image_size

    def _shown(self) -> "Iterator[InputImage]":
        if self.photos is None:
            return _of_val(self.run, self.size, self.config["count"])
        return _of_photos(self.photos, self.size)


def viewing_recipe(run: Run, ratio: float | None, seed: int) -> "Recipe":
    """The run's recipe with one mask ratio, the seed of the masks, and nothing dropped.

    Args:
        run: whose training is looked at.
        ratio: share of the patches to remove; None takes the middle of the recipe's.
        seed: of the masks.

    Raises:
        SslkitError: nothing was trained, or a method that paints nothing.
    """
    from sslkit import registry
    from sslkit.recipe.schema import resolve

    recipe = resolve([run.trained.need(run.recipe)])
    name = recipe.method.name
    if not hasattr(registry.load("sslkit.methods", name), "reconstruct"):
        raise SslkitError(
            f"{run.trained.path} was trained by {name}, which has no decoder: reconstruct needs a run of method mae, "
            "such as `sslkit pretrain RUN --recipe mae`"
        )
    mask = _mask(recipe)
    share = sum(mask.ratio) / 2 if ratio is None else ratio
    changes = {
        "mask": mask.model_copy(update={"ratio": (share, share)}),
        "train": recipe.train.model_copy(update={"seed": seed}),
        "encoder": recipe.encoder.model_copy(update={"drop_path": 0.0}),
    }
    return recipe.model_copy(update=changes)


def _mask(recipe: "Recipe") -> Any:
    from sslkit.masks.base import Masking

    if not isinstance(recipe.mask, Masking):
        raise UsageError("the recipe of this run has no mask: reconstruct needs one, as `--recipe mae` has it")
    return recipe.mask


def open_painter(run: Run, recipe: "Recipe", device: "torch.device") -> "MaskedAutoencoder":
    """The run's method with all of its trained weights, its decoder's among them, in eval mode.

    Raises:
        SslkitError: the checkpoint is damaged, or of another model than the recipe's.
    """
    import torch

    from sslkit.methods.mae import MaskedAutoencoder
    from sslkit.training import checkpoint

    with torch.random.fork_rng(devices=[]):
        method = MaskedAutoencoder(recipe)
    state = checkpoint.load(run.checkpoint, torch.device("cpu"))
    try:
        method.load_state_dict((state or {})["method"])
    except (KeyError, RuntimeError) as error:
        raise SslkitError(
            f"{run.checkpoint} does not hold the model of {run.recipe.name} beside it: train again with "
            f"`sslkit pretrain {run.trained.path} --force`"
        ) from error
    return method.to(device).eval()


def _of_val(run: Run, size: int, count: int) -> "Iterator[InputImage]":
    from sslkit.data.evaluation_crop import evaluation_crop
    from sslkit.data.shards import open_split
    from sslkit.probes.inspect.reconstruction import InputImage

    split = open_split(run.data, "val")
    for index in in_turns(split.labels.tolist())[: max(count, JUDGED)]:
        name = class_of(split, index) or split.keys[index]
        yield InputImage(name, evaluation_crop(split.image(index), size), index, _object_mask(split, index, size))


def _object_mask(split: "Split", index: int, size: int) -> "torch.Tensor | None":
    from sslkit.data.evaluation_crop import evaluation_crop

    mask = split.object_mask(index)
    return None if mask is None else evaluation_crop(mask[None], size)[0]


def _of_photos(photos: Mapping[str, Path], size: int) -> "Iterator[InputImage]":
    from sslkit.data.evaluation_crop import evaluation_crop
    from sslkit.probes.inspect.reconstruction import InputImage

    for number, (name, image) in enumerate(read_photos(photos)):
        yield InputImage(name, evaluation_crop(image, size), number)


def _draw(method: "MaskedAutoencoder", shown: "Iterator[InputImage]", config: Result, folder: Path) -> Result:
    """Paint in batches; the first images are drawn, and all of them counted."""
    import itertools

    import numpy as np

    from sslkit.files import atomic, write_json
    from sslkit.plots.inspect.reconstruction import as_arrays, draw_reconstructions
    from sslkit.probes.inspect.reconstruction import joined, reconstruct

    kept: list[tuple[list[str], Reconstructions]] = []
    errors, flat = [], []
    while batch := list(itertools.islice(shown, BATCH)):
        painted = reconstruct(method, batch, config["precision"])
        errors.append(painted.errors)
        flat.append(painted.flat_errors)
        if sum(len(names) for names, _ in kept) < config["count"]:
            kept.append(([each.name for each in batch], painted))
    if not errors:
        raise SslkitError("no image to look at: prepare data with a val split, or name photos with --images")
    names = [name for some, _ in kept for name in some][: config["count"]]
    first = joined([painted for _, painted in kept], config["count"])
    facts: Result = {
        "images": len(names),
        "judged": sum(map(len, errors)),
        "removed": float(first.masks.double().mean()),
        "error": float(np.concatenate(errors).mean()),
        "flat_error": float(np.concatenate(flat).mean()),
        "normalised": method.config.normalise,
        "unit": _unit(method),
    }
    height, width = first.originals.shape[-2:]
    draw_reconstructions(names, first, method.student.grid(height, width), _legend(facts), folder / SHEET)
    with atomic(folder / ARRAYS) as handle:
        np.savez(handle, names=np.array(names), **as_arrays(first))
    alt = f"{len(names)} images in threes: masked input, reconstruction, original. " + " ".join(_legend(facts))
    results = {**facts, "pictures": [{"file": SHEET, "title": "Reconstructions", "alt": alt}]}
    write_json(folder / "results.json", results)
    return results


def _unit(method: "MaskedAutoencoder") -> str:
    kind = (
        "each patch less its mean and over its deviation" if method.config.normalise else "ImageNet-normalised pixels"
    )
    return f"squared error of {kind}"


def _legend(facts: Result) -> list[str]:
    lines = [
        f"Grey: the {100 * facts['removed']:.0f} % of the patches that the encoder is not shown. Error: mean over "
        f"removed patches and their pixels, {facts['unit']}.",
        f"Mean of {facts['judged']} images: {facts['error']:.3f}; patches of one colour would have "
        f"{facts['flat_error']:.3f}.",
    ]
    if facts["normalised"]:
        lines.append(
            "The model paints patterns: brightness and contrast of each removed patch come from the "
            "original, for viewing only."
        )
    return lines
