"""``sslkit attn-viz``: attention of the encoder, head by head, on val images or your own photos."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sslkit.errors import SslkitError, UsageError, number_of
from stages.contract.layout import Result
from stages.contract.output import show, table
from stages.contract.perform import perform
from stages.contract.stage import Stage
from stages.inputs.attention import AttentionRequest, read_request
from stages.inputs.encoder import EncoderSource, build, resolve
from stages.inputs.enlarging import watch_sizes
from stages.inputs.images import ImagesToDraw, images_to_draw, remark_on_sizes
from stages.inputs.photo_folders import places
from stages.options.attention import AttentionOptions
from stages.options.basic import PhotoSizeOption, ResultOptions
from stages.options.encoder import EncoderOptions
from stages.options.images import ImageOptions

if TYPE_CHECKING:
    import torch

    from sslkit.probes.inspect.attention_maps import AttentionReader

DEFAULT_RATIO = 0.5
RATIO_HELP = "With --masks: share of the patches that they hide; default 0.5."
# The first line of the page, by where the encoder comes from.
ABOUT = {
    "run": "The encoder trained in the run {run}.",
    "file": "The encoder in {weights}.",
    "timm": "timm's weights of {arch}.",
    "random": "A randomly initialised encoder: none of this was learned.",
}
STAGE = Stage(
    name="attn-viz",
    help="Draw attention maps and masks.",
    order=60,
    folder="attention",
    title="attention",
    expected=True,
)


@STAGE.command
@dataclass(kw_only=True)
class DrawAttention(AttentionOptions, ImageOptions, EncoderOptions, ResultOptions):
    """Draw attention maps on one page: every head, their mean, and the mask that holds 60 % of the mass.

    Your own photos (--images) go to attention-NAME, named after their folder.
    """

    image_size: PhotoSizeOption = None
    mass: Annotated[float, typer.Option("--mass", min=0.01, max=1.0, help="Share of attention in the mask.")] = 0.6
    masks: Annotated[bool, typer.Option("--masks", help="Draw what each masking strategy would hide.")] = False
    mask_ratio: Annotated[float | None, typer.Option("--mask-ratio", min=0.0, max=1.0, help=RATIO_HELP)] = None

    def execute(self) -> None:
        """Draw the maps, and print the page's path."""
        if self.mask_ratio is not None and not self.masks:
            raise UsageError("--mask-ratio requires --masks")
        run = self.open_run()
        self.no_pixels("has no attention to draw")
        # At its own size, so that positions are resampled only once, to each image's grid.
        source = resolve(run, self)
        request = read_request(run, source, self)
        drawn = images_to_draw(run, self, source.channels)

        device, precision = self.place()
        config: Result = {
            **source.config(),
            **request.config(),
            "image_size": self.image_size or source.image_size,
            **drawn.config,
            "mass": self.mass,
            "mask_ratio": (DEFAULT_RATIO if self.mask_ratio is None else self.mask_ratio) if self.masks else None,
            "precision": precision,
        }
        about = ABOUT[source.kind].format(run=run.path.resolve().name, weights=self.weights, arch=self.arch)
        variant = drawn.variant(STAGE, self.force)
        results = perform(
            run,
            STAGE,
            variant=variant,
            prepare=lambda: _open(drawn, source, request, config, device, self.image_size),
            work=lambda folder, readers: _draw(drawn, request, readers, config, about, folder),
            config=config,
            inputs={**source.files, **request.files, **drawn.inputs},
            how={"device": self.place_described(), **places(images=self.images)},
            force=self.force,
        )
        run.remember_data()
        results = {**results, "page": str(run.folder(STAGE.id(variant)) / results["page"])}
        show(results, _lines(results, request.name), self.json)


def _open(
    drawn: ImagesToDraw,
    source: EncoderSource,
    request: AttentionRequest,
    config: Result,
    device: "torch.device",
    image_size: int | None,
) -> "tuple[AttentionReader, AttentionReader | None]":
    """Readers of the encoder's attention and of the one to compare with, tried on an image of one patch.

    Raises:
        SslkitError: no image, weights that do not fit, or an encoder without such attention.
    """
    import torch

    from sslkit.probes.inspect.attention_maps import AttentionReader

    drawn.expect_one()

    def reader(source: EncoderSource, size: int) -> AttentionReader:
        frozen = build(source, device, config["precision"])
        opened = AttentionReader(
            replace(frozen, size=size), request.layers, request.queries or (None,), request.rollout
        )
        small = replace(opened, frozen=replace(frozen, size=1))
        small.main_maps(torch.zeros(source.channels, 1, 1, dtype=torch.uint8))
        if config["mask_ratio"] is not None:
            _ = small.masking  # refuses models without CLS
        return opened

    own, against = reader(source, config["image_size"]), request.against
    # The other encoder sees the images at its own size, unless --image-size sets that of both.
    return own, reader(against, image_size or against.image_size) if against is not None else None


def _draw(
    drawn: ImagesToDraw,
    request: AttentionRequest,
    readers: "tuple[AttentionReader, AttentionReader | None]",
    config: Result,
    about: str,
    folder: Path,
) -> Result:
    """Read the attention to every image, and draw it."""
    from sslkit.plots.attention.contents import GalleryContents
    from sslkit.plots.attention.gallery import draw_gallery
    from sslkit.plots.attention.maps import shrunk
    from sslkit.probes.inspect.attention_maps import read_images, read_kept
    from sslkit.probes.inspect.head_matching import match_heads
    from sslkit.weights.read import load_encoder

    (reader, other), masks = readers, config["mask_ratio"] is not None
    pictures = watch_sizes(drawn.read(), config["image_size"])
    pictures = remark_on_sizes(pictures, config["image_size"], reader.encoder.patch_size)
    images = [shrunk(each) for each in read_images(pictures, reader, masks, other)]
    if not images:
        raise SslkitError("no images to draw: name photos with --images, or prepare data with a val split")
    # A generator, so that only one encoder is in memory at a time.
    kept = ((epochs, load_encoder(drawn.run.need(path), drawn.run.encoder_info)) for epochs, path in request.kept)
    history = read_kept(kept, [each.resized for each in images], reader, masks)
    theirs = [each.other for each in images if each.other is not None]
    matching = match_heads([each.main.maps for each in images], theirs) if theirs else None
    contents = GalleryContents(reader, config["mass"], config["mask_ratio"], history, request.name, matching)
    what = f"attention, {drawn.name}" if drawn.name else "attention"
    return draw_gallery(contents, images, folder, [about], f"{drawn.run.title}: {what} · sslkit")


def _lines(results: Result, other: str) -> list[str]:
    lines = [f"{number_of(results['images'], 'image')}, {number_of(results['heads'], 'head')}: {results['page']}"]
    found = results.get("against")
    if not found:
        return lines

    from sslkit.probes.inspect.head_matching import in_words

    rows = [["mean", "mean", *in_words(found["mean"])]]
    rows += [[f"head {pair['head']}", f"head {pair['other']}", *in_words(pair)] for pair in found["heads"]]
    lines += table([["this encoder", other, "bits", "95 % interval"], *rows])
    lines.append(f"Jensen-Shannon divergence, mean over images; any two heads: {found['any_two_heads']:.3g} bits")
    return lines + ([f"averaged to one grid: {found['resampled']}"] if found["resampled"] else [])
