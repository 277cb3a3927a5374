"""`sslkit attn-viz RUN`: what the encoder attends to, head by head, on val images or one's own photos."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from sslkit.errors import SslkitError, UsageError
from stages.contract.layout import Result, Run
from stages.contract.output import show, table
from stages.contract.perform import perform
from stages.contract.stage import Stage
from stages.inputs.encoder import EncoderSource, build
from stages.inputs.images import ImagesToDraw, images_to_draw, remark_on_sizes
from stages.inputs.photo_folders import places
from stages.options.attention import (
    AgainstOption,
    EveryOption,
    LayersOption,
    More,
    QueryOption,
    RolloutOption,
    TimelineOption,
    read_more,
)
from stages.options.basic import ForceOption, JsonOption, PhotoSizeOption, PhotosOption, RunArgument
from stages.options.splicing import EncoderChoice, takes_encoder

if TYPE_CHECKING:
    import torch

    from sslkit.encoder.encoder import Encoder
    from sslkit.probes.inspect.attention_maps import AttentionReader

DEFAULT_RATIO = 0.5
# The first line of the page, by where the encoder comes from.
ABOUT = {
    "run": "The encoder trained in the run {run}.",
    "file": "The encoder in {weights}.",
    "timm": "timm's weights of {arch}.",
    "random": "An encoder with random weights: what is seen here was not learned.",
}


STAGE = Stage(
    name="attn-viz",
    help="Draw attention maps, and what masks hide.",
    order=60,
    folder="attention",
    title="attention",
    expected=True,
)


@STAGE.command
@takes_encoder
def attn_viz(
    run: RunArgument,
    *,
    images: PhotosOption = None,
    count: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--count", min=1, help="How many images; default 8 of val, or all of --images."),
    ] = None,
    image_size: PhotoSizeOption = None,
    mass: Annotated[float, typer.Option("--mass", min=0.01, max=1.0, help="Share of attention in the mask.")] = 0.6,
    masks: Annotated[bool, typer.Option("--masks", help="Draw what each masking strategy would hide.")] = False,
    mask_ratio: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--mask-ratio", min=0.0, max=1.0, help="With --masks: share they hide; default 0.5."),
    ] = None,
    layers: LayersOption = None,
    query: QueryOption = None,
    rollout: RolloutOption = False,
    timeline: TimelineOption = False,
    every: EveryOption = None,
    against: AgainstOption = None,
    encoder: EncoderChoice,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Draw attention maps: every head, their mean, the mask with 60 % of the mass, and one page of all.

    One's own photos (--images) are drawn beside those of val, in attention-NAME by the name of their folder.
    """
    if mask_ratio is not None and not masks:
        raise UsageError("--mask-ratio goes with --masks")
    here = encoder.open(run)
    encoder.no_pixels("has no attention to draw")
    # Built at its own size: positions are then resampled once, to each image's grid, and not twice.
    source = encoder.source(here)
    more = read_more(here, source, layers, query, rollout, timeline, every, against)
    drawn = images_to_draw(here, images, count)
    inputs = {**source.files, **more.files, **drawn.inputs}

    where, bits = encoder.place()
    config: Result = {
        **source.config(),
        **more.config(),
        "image_size": image_size or source.image_size,
        **drawn.config,
        "mass": mass,
        "mask_ratio": (DEFAULT_RATIO if mask_ratio is None else mask_ratio) if masks else None,
        "precision": bits,
    }
    variant = drawn.variant(STAGE, force)
    about = ABOUT[source.kind].format(run=here.path.resolve().name, weights=encoder.weights, arch=encoder.arch)
    job = Job(here, source, more, config, where, drawn, image_size, about)
    results = perform(
        here,
        STAGE,
        variant=variant,
        prepare=job.check,
        work=lambda folder, _: job.work(folder),
        config=config,
        inputs=inputs,
        how={"device": str(where), **places(images=images)},
        force=force,
    )
    here.remember_data()
    results = {**results, "page": str(here.folder(STAGE.id(variant)) / results["page"])}
    show(results, _lines(results, more.name), as_json)


@dataclass
class Job:
    """One call. ``check`` comes before ``work``."""

    run: Run
    source: EncoderSource
    more: More
    config: Result
    device: "torch.device"
    drawn: ImagesToDraw
    image_size: int | None
    about: str

    def check(self) -> None:
        """Open the encoders, and look at one image.

        Raises:
            SslkitError: no image, weights that do not fit, or an encoder without such attention.
        """
        from dataclasses import replace

        from sslkit.probes.inspect.attention_maps import AttentionReader

        self.drawn.expect_one()
        frozen = build(self.source, self.device, self.config["precision"])
        more, size = self.more, self.config["image_size"]
        asked = {"layers": more.layers, "queries": more.queries or (None,), "rollout": more.rollout}
        self.reader = AttentionReader(replace(frozen, size=size), **asked)
        self.other: AttentionReader | None = None
        if more.against is not None:
            # The other encoder sees the images at its own size, unless --image-size is for both.
            other = build(more.against, self.device, self.config["precision"])
            self.other = AttentionReader(replace(other, size=self.image_size or more.against.image_size), **asked)
        _try(self.reader, self.masks)
        if self.other is not None:
            _try(self.other, self.masks)

    @property
    def masks(self) -> bool:
        """Whether masks are drawn."""
        return self.config["mask_ratio"] is not None

    def work(self, folder: Path) -> Result:
        """Read the attention to each image, and draw it."""
        from sslkit.plots.attention.contents import GalleryContents
        from sslkit.plots.attention.gallery import draw_gallery
        from sslkit.plots.attention.maps import shrunk
        from sslkit.probes.inspect.attention_maps import read_images, read_kept
        from sslkit.probes.inspect.head_matching import match_heads

        pictures = remark_on_sizes(self.drawn.read(), self.config["image_size"], self.reader.encoder.patch_size)
        seen = [shrunk(each) for each in read_images(pictures, self.reader, self.masks, self.other)]
        if not seen:
            raise SslkitError("no image to look at: name photos with --images, or prepare data with a val split")
        kept = _load_kept(self.run, self.more)
        history = read_kept(kept, [each.resized for each in seen], self.reader, self.masks)
        theirs = [each.other for each in seen if each.other is not None]
        matching = match_heads([each.main.maps for each in seen], theirs) if theirs else None
        contents = GalleryContents(
            self.reader, self.config["mass"], self.config["mask_ratio"], history, self.more.name, matching
        )
        what = f"attention, {self.drawn.name}" if self.drawn.name else "attention"
        of = f"{self.run.title}: {what} · sslkit"
        return draw_gallery(contents, seen, folder, [self.about], of)


def _try(reader: "AttentionReader", masks: bool) -> None:
    """Read the attention of an image of one patch: an encoder that has none is found before anything is written."""
    from dataclasses import replace

    import torch

    small = replace(reader, frozen=replace(reader.frozen, size=1))
    small.main_maps(torch.zeros(3, 1, 1, dtype=torch.uint8))
    if masks:
        _ = reader.masking


def _load_kept(run: Run, more: More) -> Iterator[tuple[float, "Encoder"]]:
    """One encoder at a time is in memory."""
    from sslkit.weights.read import load_encoder

    for epochs, path in more.kept:
        yield epochs, load_encoder(path, run.encoder_info)


def _lines(results: Result, other: str) -> list[str]:
    lines = [f"{results['images']} images, {results['heads']} heads: {results['page']}"]
    found = results.get("against")
    if not found:
        return lines
    rows = [["mean", "mean", *_numbers(found["mean"])]]
    rows += [[f"head {pair['head']}", f"head {pair['other']}", *_numbers(pair)] for pair in found["heads"]]
    lines += table([["this encoder", other, "bits", "95 % interval"], *rows])
    lines.append(f"Jensen-Shannon divergence, mean over images; any two heads: {found['any_two_heads']:.3g} bits")
    return lines + ([f"averaged to one grid: {found['resampled']}"] if found["resampled"] else [])


def _numbers(pair: Mapping[str, Any]) -> list[str]:
    around = f"{pair['low']:.3g} to {pair['high']:.3g}" if pair["low"] is not None else "none of one image"
    return [f"{pair['divergence']:.3g}", around]
