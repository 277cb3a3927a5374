"""``sslkit preview RUN --recipe ...``: draw what the model will see, before hours are spent on training it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from stages.contract.layout import Result, Run, open_run
from stages.contract.output import say, show
from stages.contract.stage import Stage
from stages.options.basic import DataOptions, Device, DeviceOption, JsonOption
from stages.options.recipe import RecipeOptions

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from sslkit.methods.base import Preview
    from sslkit.recipe.schema import Recipe


VIEWS = "views.png"
STAGE = Stage(name="preview", help="Draw what a recipe's model will see.", order=140, folder="preview", recorded=False)


@STAGE.command
@dataclass(kw_only=True)
class PreviewCommand(RecipeOptions, DataOptions):
    """Draw the views, masks and targets of a recipe's first step; works even while the run trains.

    It takes the recipe options of `sslkit pretrain`, and shows what that command would begin with.
    """

    images: Annotated[int, typer.Option("--images", min=1, help="Rows of the picture, one image each.")] = 6
    device: DeviceOption = Device.auto
    json: JsonOption = False

    def execute(self) -> None:
        """Draw, and say what the picture shows."""
        recipe, run = self.recipe(), open_run(self.run, self.data)
        run.need(run.manifest)

        from sslkit.device import pick_device

        with self.one_method(say):
            results = _draw(run, recipe, pick_device(self.device.value), self.images)
        show(results, _lines(results, run.folder(STAGE.name) / VIEWS), self.json)


def _draw(run: Run, recipe: "Recipe", device: "torch.device", count: int) -> Result:
    """Write the picture, and the resolved recipe next to it."""
    import torch

    from sslkit.files import atomic
    from sslkit.recipe.schema import dump
    from sslkit.schedules import Moment
    from stages.inputs.method import open_method, suited

    recipe = suited(run, recipe)
    opened = open_method(run, recipe, device)
    for remark in opened.remarks:
        say(remark)
    steps_per_epoch = max(len(opened.images) // recipe.train.batch_size, 1)
    with torch.no_grad():
        seen = opened.method.preview(opened.batch(count), Moment(0, steps_per_epoch, recipe.train.epochs))
    # No lock and no stage.json: no stage reads this folder, and a training run is not disturbed.
    folder = run.folder(STAGE.name)
    folder.mkdir(parents=True, exist_ok=True)
    opened.draw(seen, folder / VIEWS)
    with atomic(folder / "recipe.yaml", "w") as handle:
        handle.write(dump(recipe))
    return _describe(seen, folder / VIEWS)


def _describe(seen: "Preview", picture: "Path") -> Result:
    sizes = {title: [len(crops), *crops.shape[-2:]] for title, crops in seen.pictures.items()}
    results: Result = {
        "picture": str(picture),
        "images": next(iter(seen.pictures.values())).shape[1],
        "pictures": sizes,  # views of an image, height and width in pixels
        "hidden": None,
    }
    if seen.masks is not None:
        masked = seen.masks.flatten(0, 1)[seen.masks.flatten(0, 1).any(-1)]
        results["crops"], results["masked_crops"] = seen.masks.shape[:2].numel(), len(masked)
        results["hidden"] = masked.float().mean().item() if len(masked) else 0.0
    return results


def _lines(results: Result, picture: "Path") -> list[str]:
    views = [f"{views} {title} of {width} x {height}" for title, (views, height, width) in results["pictures"].items()]
    lines = [f"{', '.join(views)} pixels"]
    if results["hidden"] is not None:
        lines.append(
            f"{results['masked_crops']} of {results['crops']} crops masked, with {results['hidden']:.0%} of their "
            f"patches hidden"
        )
    return [*lines, str(picture)]
