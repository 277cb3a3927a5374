"""`sslkit attn-viz RUN`: what the encoder attends to, head by head, on val images or one's own photos."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from sslkit.errors import SslkitError, UsageError
from stages.encoder_source import build, resolve
from stages.options import (
    DataOption,
    Device,
    DeviceOption,
    ForceOption,
    JsonOption,
    Precision,
    PrecisionOption,
    RunArgument,
    SeedOption,
)
from stages.output import say, show
from stages.run import Result, Run, open_run

if TYPE_CHECKING:
    from torch import Tensor

PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
DEFAULT_COUNT = 8
# The first line of the page, by where the encoder comes from.
ABOUT = {
    "run": "The encoder trained in the run {run}.",
    "file": "The encoder in {weights}.",
    "timm": "timm's weights of {arch}.",
    "random": "An encoder with random weights: what is seen here was not learned.",
}


def attn_viz(
    run: RunArgument,
    images: Annotated[
        Optional[Path],  # noqa: UP045  typer reads the annotation at run time on Python 3.10
        typer.Option("--images", metavar="FILE|DIR", help="Your own photos, of any size.", show_default=False),
    ] = None,
    count: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--count", min=1, help="How many images; default 8 of val, or all of --images."),
    ] = None,
    image_size: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--image-size", min=1, help="Shorter side, pixels; default: the encoder's. At most 8192 patches."),
    ] = None,
    mass: Annotated[float, typer.Option("--mass", min=0.01, max=1.0, help="Share of attention in the mask.")] = 0.6,
    masks: Annotated[bool, typer.Option("--masks", help="Draw what each masking strategy would hide.")] = False,
    mask_ratio: Annotated[float, typer.Option("--mask-ratio", min=0.0, max=1.0, help="Share they hide.")] = 0.5,
    weights: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--weights", metavar="FILE|random", help="Another encoder than the run's.", show_default=False),
    ] = None,
    arch: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--arch", metavar="NAME", help="timm name of the encoder.", show_default=False),
    ] = None,
    pretrained: Annotated[bool, typer.Option("--pretrained", help="timm's own weights of --arch; downloads.")] = False,
    data: DataOption = None,
    device: DeviceOption = Device.auto,
    precision: PrecisionOption = Precision.auto,
    seed: SeedOption = 0,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Draw attention maps: every head, their mean, the mask with 60 % of the mass, and one page of all."""
    here = open_run(run, data)
    if weights == "pixels":
        raise UsageError("--weights pixels has no attention to draw: name a checkpoint FILE, or random")
    # Built at its own size: positions are then resampled once, to each image's grid, and not twice.
    source = resolve(here, weights, arch, pretrained, None, None, None, seed)
    photos = _photos(images, count) if images is not None else None
    if photos is None:
        inputs = {**source.files, "data": here.need(here.manifest, "prepare")}
    else:
        inputs = {**source.files, **{f"photo {name}": path for name, path in photos.items()}}

    from sslkit.device import pick_device, resolve_precision

    where = pick_device(device.value)
    config: Result = {
        **source.config(),
        "image_size": image_size or source.image_size,
        "images": "val" if photos is None else "photos",
        "count": (count or DEFAULT_COUNT) if photos is None else len(photos),
        "mass": mass,
        "mask_ratio": mask_ratio if masks else None,
        "precision": resolve_precision(precision.value, where),
    }

    def work(folder: Path) -> Result:
        from sslkit.plots.gallery import Look, draw_gallery

        built = build(source)
        if built.coverage and source.kind == "file":
            say(built.coverage.line())
        look = Look(
            shorter=config["image_size"],
            keep=mass,
            mask_ratio=config["mask_ratio"],
            device=where,
            precision=config["precision"],
            mean=built.mean,
            std=built.std,
        )
        pictures = _val_images(here, config["count"]) if photos is None else _read_photos(photos)
        about = ABOUT[source.kind].format(run=here.path.resolve().name, weights=weights, arch=arch)
        return dict(draw_gallery(built.encoder.to(where).eval(), pictures, folder, look, [about]))

    results = here.perform(
        "attn-viz", work, config=config, inputs=inputs, how={"device": str(where), "images": str(images)}, force=force
    )
    here.remember_data()
    page = here.folder("attn-viz") / results["page"]
    show({**results, "page": str(page)}, [f"{results['images']} images, {results['heads']} heads: {page}"], as_json)


def _photos(images: Path, count: int | None) -> dict[str, Path]:
    """The user's photos by name, sorted."""
    if images.is_file():
        return {images.name: images}
    if not images.is_dir():
        raise SslkitError(f"no photo and no folder at {images}: --images takes either")
    found = sorted(p for p in images.rglob("*") if p.suffix.lower() in PHOTO_SUFFIXES and p.is_file())
    if not found:
        raise SslkitError(f"no photo in {images}: files named {', '.join(sorted(PHOTO_SUFFIXES))} are looked for")
    return {str(path.relative_to(images)): path for path in found[:count]}


def _read_photos(photos: dict[str, Path]) -> Iterator[tuple[str, "Tensor"]]:
    from sslkit.data.images import decode

    for name, path in photos.items():
        try:
            image = decode(path.read_bytes())
        except SslkitError as error:
            # One bad photo among many is no reason to show none.
            if len(photos) == 1:
                raise SslkitError(f"{path}: {error}") from error
            say(f"{path} is left out: {error}")
            continue
        yield name, image


def _val_images(run: Run, count: int) -> Iterator[tuple[str, "Tensor"]]:
    """The first image of each class in turn, then the second of each, ...: prepared data lies class by class."""
    from sslkit.data.shards import open_split

    split = open_split(run.data, "val")
    seen: dict[int, int] = {}
    order: list[tuple[int, int, int]] = []
    for index, label in enumerate(split.labels.tolist()):
        seen[label] = seen.get(label, -1) + 1
        order.append((seen[label], label, index))
    for _, label, index in sorted(order)[:count]:
        name = f"{split.keys[index]} ({split.classes[label]})" if label >= 0 else split.keys[index]
        yield name, split.image(index)
