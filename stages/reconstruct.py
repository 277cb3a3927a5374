"""``sslkit reconstruct``: the reconstructions of a masked autoencoder, and their error."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sslkit.errors import SslkitError, UsageError, number_of
from stages.contract.layout import Result, Run, transferred
from stages.contract.output import show
from stages.contract.perform import perform
from stages.contract.stage import Stage
from stages.inputs.enlarging import say_enlarged, watch_sizes
from stages.inputs.images import ImagesToDraw, class_of, images_to_draw, in_turns, split_to_draw
from stages.inputs.photo_folders import places
from stages.options import basic
from stages.options.images import ImageOptions

if TYPE_CHECKING:
    import torch

    from sslkit.methods.mae import MaskedAutoencoder
    from sslkit.probes.inspect.reconstruction import InputImage, Reconstructions
    from sslkit.recipe.schema import Recipe

EVALUATED = 256  # val images for the mean error: the few that are drawn would say little
BATCH = 32
# By whether the method normalises its targets.
UNITS = {True: "patches minus their mean, divided by their standard deviation", False: "ImageNet-normalised pixels"}
SHEET, ARRAYS, RESULTS = "reconstructions.png", "reconstructions.npz", "results.json"
RATIO_HELP = "Share of the patches to remove; default: the recipe's."
STAGE = Stage(name="reconstruct", help="Draw what an MAE reconstructs.", order=110, folder="reconstruct")


@STAGE.command
@dataclass(kw_only=True)
class Reconstruct(ImageOptions, basic.DataOptions, basic.ResultOptions):
    """Draw what an MAE sees, its reconstruction, and the original; the error is a mean over 256 val images.

    Your own photos (--images) go to reconstruct-NAME, named after their folder.
    """

    ratio: Annotated[float | None, typer.Option("--ratio", min=0.0, max=1.0, help=RATIO_HELP)] = None
    device: basic.DeviceOption = basic.Device.auto
    precision: basic.PrecisionOption = basic.Precision.auto
    seed: basic.SeedOption = 0

    def execute(self) -> None:
        """Draw the reconstructions, and print the error."""
        run = transferred(self.run, self.data)
        recipe = viewing_recipe(run, self.ratio, self.seed)
        inputs = {"recipe": run.recipe, "checkpoint": run.trained.need(run.checkpoint)}
        drawn = images_to_draw(run, self, recipe.encoder.channels or 3)

        from sslkit.device import described, pick_device, resolve_precision

        device = pick_device(self.device.value)
        precision = resolve_precision(self.precision.value, device)
        mask = {"ratio": _mask(recipe).ratio[0], "seed": self.seed}
        config: Result = {**drawn.config, **mask, "precision": precision}
        variant = drawn.variant(STAGE, self.force)
        results = perform(
            run,
            STAGE,
            variant=variant,
            prepare=lambda: _open(drawn, recipe, device, config),
            work=lambda folder, method: _draw(drawn, recipe, method, config, folder),
            config=config,
            inputs={**inputs, **drawn.inputs},
            how={"device": described(device, precision), **places(images=self.images)},
            force=self.force,
        )
        sheet = run.folder(STAGE.id(variant)) / SHEET
        lines = [
            f"error {results['error']:.3f} ({results['unit']}), mean over {number_of(results['judged'], 'image')}; "
            f"patches of one colour: {results['flat_error']:.3f}",
            f"{number_of(results['images'], 'image')}, {100 * results['removed']:.0f} % removed: {sheet}",
        ]
        show(results, lines, self.json)


def _open(drawn: ImagesToDraw, recipe: "Recipe", device: "torch.device", config: Result) -> "MaskedAutoencoder":
    """Open the model, and reconstruct one image.

    Raises:
        SslkitError: no image, a checkpoint that does not fit, or masks that cannot be drawn.
    """
    import torch

    from sslkit.probes.inspect.reconstruction import InputImage, reconstruct

    drawn.expect_one()
    method, size = open_mae(drawn.run, recipe, device), _size(recipe)
    blank = InputImage("", torch.zeros(recipe.encoder.channels or 3, size, size, dtype=torch.uint8), 0)
    reconstruct(method, [blank if drawn.photos else next(_inputs(drawn, size))], config["precision"])
    return method


def _size(recipe: "Recipe") -> int:
    """Side of the crops, in pixels."""
    return recipe.views.global_.size or recipe.encoder.image_size


def viewing_recipe(run: Run, ratio: float | None, seed: int) -> "Recipe":
    """The run's recipe with one mask ratio, by default the middle of its range, a seed for the masks, and no drop path.

    Raises:
        SslkitError: there is no training run, or its method has no decoder.
    """
    from sslkit import registry
    from sslkit.recipe.schema import resolve

    recipe = resolve([run.trained.need(run.recipe)])
    name = recipe.method.name
    if not hasattr(registry.load("sslkit.methods", name), "reconstruct"):
        raise SslkitError(
            f"{run.trained.path} was trained by {name}, which has no decoder: reconstruct requires a run of method "
            "mae, such as `sslkit pretrain RUN --recipe mae`"
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
        raise UsageError("the recipe of this run has no mask: reconstruct requires one, such as that of `--recipe mae`")
    return recipe.mask


def open_mae(run: Run, recipe: "Recipe", device: "torch.device") -> "MaskedAutoencoder":
    """The run's method with its trained weights, decoder included, in eval mode.

    Raises:
        SslkitError: the checkpoint is damaged, or holds another model than the recipe's.
    """
    import torch

    from sslkit.methods.mae import MaskedAutoencoder
    from sslkit.training import checkpoint

    with torch.random.fork_rng(devices=[]):
        method = MaskedAutoencoder(recipe)
    state = checkpoint.load(run.need(run.checkpoint), torch.device("cpu"), {"method": {str: object}})
    wrong = checkpoint.unlike((state or {})["method"], method.state_dict())
    if wrong:
        raise SslkitError(
            f"{run.checkpoint} does not hold the model of the {run.recipe.name} next to it ({wrong}): train again with "
            f"`sslkit pretrain {run.trained.path} --force`"
        )
    method.load_state_dict((state or {})["method"])
    return method.to(device).eval()


def _inputs(drawn: ImagesToDraw, size: int) -> "Iterator[InputImage]":
    """Crops of the photos, or of val images for the pictures and the error, with their object masks."""
    from sslkit.data.evaluation_crop import evaluation_crop
    from sslkit.probes.inspect.reconstruction import InputImage

    if drawn.photos:
        for number, (name, image) in enumerate(watch_sizes(drawn.read(), size)):
            yield InputImage(name, evaluation_crop(image, size), number)
        return
    split = split_to_draw(drawn.run)
    for index in in_turns(split.labels.tolist())[: max(drawn.count, EVALUATED)]:
        mask = split.object_mask(index)
        mask = None if mask is None else evaluation_crop(mask[None], size)[0]
        name = class_of(split, index) or split.source_name(index)
        yield InputImage(name, evaluation_crop(split.image(index), size), index, mask)


def _draw(drawn: ImagesToDraw, recipe: "Recipe", method: "MaskedAutoencoder", config: Result, folder: Path) -> Result:
    """Reconstruct in batches; the first images are drawn, and the error is a mean over all images."""
    import numpy as np

    from sslkit.files import atomic, write_json
    from sslkit.plots.inspect.reconstruction import as_arrays, draw_reconstructions
    from sslkit.probes.inspect.reconstruction import joined, reconstruct

    drawn.run.remember_data()
    if not drawn.photos:
        say_enlarged(drawn.run, _size(recipe), ["val" if "val" in drawn.run.prepared()["splits"] else "train"])
    images = _inputs(drawn, _size(recipe))
    names: list[str] = []
    kept: list[Reconstructions] = []
    errors, flat = [], []
    while batch := list(itertools.islice(images, BATCH)):
        painted = reconstruct(method, batch, config["precision"])
        errors.append(painted.errors)
        flat.append(painted.flat_errors)
        if len(names) < config["count"]:
            names += [each.name for each in batch]
            kept.append(painted)
    if not errors:
        raise SslkitError("no images to draw: prepare data with a val split, or name photos with --images")
    names, first = names[: config["count"]], joined(kept, config["count"])
    facts: Result = {
        "images": len(names),
        "judged": sum(map(len, errors)),
        "removed": float(first.masks.double().mean()),
        "error": float(np.concatenate(errors).mean()),
        "flat_error": float(np.concatenate(flat).mean()),
        "normalised": method.config.normalise,
        "unit": f"squared error of {UNITS[method.config.normalise]}",
    }
    height, width = first.originals.shape[-2:]
    draw_reconstructions(names, first, method.student.grid(height, width), _legend(facts), folder / SHEET)
    with atomic(folder / ARRAYS) as handle:
        np.savez(handle, names=np.array(names), **as_arrays(first))
    alt = f"{len(names)} images in threes: masked input, reconstruction, original. " + " ".join(_legend(facts))
    results = {**facts, "pictures": [{"file": SHEET, "title": "Reconstructions", "alt": alt}]}
    write_json(folder / RESULTS, results)
    return results


def _legend(facts: Result) -> list[str]:
    lines = [
        f"Grey: the {100 * facts['removed']:.0f} % of the patches that the encoder does not see. Error: mean over the "
        f"pixels of the removed patches, {facts['unit']}.",
        f"Mean over {facts['judged']} images: {facts['error']:.3f}; for patches of one colour it would be "
        f"{facts['flat_error']:.3f}.",
    ]
    if facts["normalised"]:
        lines.append(
            "The model predicts patterns: the brightness and contrast of each removed patch come from the original, "
            "for viewing only."
        )
    return lines
