"""`sslkit attn-viz RUN`: what the encoder attends to, head by head, on val images or one's own photos."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from sslkit.errors import SslkitError, UsageError
from stages.encoder_source import build, resolve
from stages.extract import open_like
from stages.options import (
    ArchOption,
    DataOption,
    Device,
    DeviceOption,
    ForceOption,
    JsonOption,
    LikeOption,
    Precision,
    PrecisionOption,
    PretrainedOption,
    RunArgument,
    SeedOption,
    WeightsOption,
)
from stages.output import say, show
from stages.run import Result, Run

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
    weights: WeightsOption = None,
    arch: ArchOption = None,
    pretrained: PretrainedOption = False,
    like: LikeOption = None,
    data: DataOption = None,
    device: DeviceOption = Device.auto,
    precision: PrecisionOption = Precision.auto,
    seed: SeedOption = 0,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Draw attention maps: every head, their mean, the mask with 60 % of the mass, and one page of all."""
    here = open_like(run, data, like)
    if weights == "pixels":
        raise UsageError("--weights pixels has no attention to draw: name a checkpoint FILE, or random")
    if weights is None and arch is None and not pretrained and like is None:
        _check_encoder(here)
    # Built at its own size: positions are then resampled once, to each image's grid, and not twice.
    source = resolve(here, weights, arch, pretrained, like, None, None, seed)
    photos = find_photos(images, count) if images is not None else None
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
        pictures = _val_images(here, config["count"]) if photos is None else read_photos(photos)
        if built.encoder.vit:
            pictures = _sizes_told(pictures, config["image_size"], built.encoder.patch_size)
        about = ABOUT[source.kind].format(run=here.path.resolve().name, weights=weights, arch=arch)
        return dict(draw_gallery(built.encoder.to(where).eval(), pictures, folder, look, [about]))

    results = here.perform(
        "attn-viz", work, config=config, inputs=inputs, how={"device": str(where), "images": str(images)}, force=force
    )
    here.remember_data()
    page = here.folder("attn-viz") / results["page"]
    show({**results, "page": str(page)}, [f"{results['images']} images, {results['heads']} heads: {page}"], as_json)


def _check_encoder(run: Run) -> None:
    """Features may come from an encoder that the run does not hold; then no stage is missing.

    Raises:
        SslkitError: they do; the message says how such an encoder is drawn.
    """
    record = run.record("extract")
    kind = record["config"].get("weights", "run") if record else "run"
    if record is None or kind == "run" or run.encoder.exists():
        return
    spec = record["config"]["encoder"] or {}
    if kind == "pixels":
        advice = "is a baseline of raw pixels: there is no attention to draw; name a pretrained run, or --weights FILE"
    elif kind == "random":
        # A plain timm architecture is named; one that follows a recipe is that of the run whose recipe it was.
        like = f"--arch {spec['arch']}" if "width" not in spec else "--like A_PRETRAINED_RUN"
        advice = f"is a baseline of random weights, which are not kept: draw the like by --weights random {like}"
    elif kind == "timm":
        advice = f"has features of timm's {spec['arch']}: draw it by --arch {spec['arch']} --pretrained"
    else:
        path = os.path.normpath(run.path / record["inputs"]["weights"]["path"])
        named = "" if "encoder_info" in record["inputs"] else f" --arch {spec['arch']}"
        advice = f"has features of another encoder: draw it by --weights {path}{named}"
    raise SslkitError(f"{run.path} {advice}")


def _sizes_told(pictures: Iterator[tuple[str, "Tensor"]], shorter: int, patch: int) -> Iterator[tuple[str, "Tensor"]]:
    """The same pictures, with a remark where one enters the encoder at another size than was asked for."""
    from sslkit.plots.attention import MAX_TOKENS, model_size

    whole = max(shorter // patch, 1) * patch
    if whole != shorter:
        say(f"--image-size {shorter} becomes {whole}: patches are {patch} pixels wide")
    told = set()
    for name, image in pictures:
        size = model_size(image.shape[1], image.shape[2], shorter, patch)
        if min(size) < whole and size not in told:
            told.add(size)
            say(f"{name} is seen at {size[1]} x {size[0]} pixels, not {whole} or more: at most {MAX_TOKENS} patches")
        yield name, image


def find_photos(images: Path, count: int | None) -> dict[str, Path]:
    """The user's photos by name, sorted."""
    if images.is_file():
        return {images.name: images}
    if not images.is_dir():
        raise SslkitError(f"no photo and no folder at {images}: --images takes either")
    found = sorted(p for p in images.rglob("*") if p.suffix.lower() in PHOTO_SUFFIXES and p.is_file())
    if not found:
        raise SslkitError(f"no photo in {images}: files named {', '.join(sorted(PHOTO_SUFFIXES))} are looked for")
    return {str(path.relative_to(images)): path for path in found[:count]}


def read_photos(photos: dict[str, Path]) -> Iterator[tuple[str, "Tensor"]]:
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
