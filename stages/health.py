"""``sslkit health``: collapse and quality of a representation, and how far its heads look, without labels."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sslkit.errors import SslkitError, UsageError, number_of
from stages.contract.layout import Result, Run
from stages.contract.output import say, show, table
from stages.contract.perform import perform
from stages.contract.stage import Stage
from stages.inputs.encoder import build, resolve
from stages.inputs.enlarging import say_enlarged
from stages.options.basic import ResultOptions
from stages.options.encoder import EncoderOptions

if TYPE_CHECKING:
    from sslkit.encoder.frozen import FrozenEncoder
    from sslkit.probes.inspect.attention_meter import AttentionMeter
    from sslkit.probes.inspect.health import HealthImages

VIEWS = ("standard", "recipe")
VIEWS_HELP = (
    "Pairs for alignment: standard (crop, flip, colours; comparable between runs) or recipe (the run's own; writes "
    "health-recipe-views/)."
)
MEASURES = ("rankme", "alignment", "uniformity", "feature_std")


STAGE = Stage(
    name="health", help="Measure rank, spread and heads, without labels.", order=100, folder="health", evaluates=True
)


@STAGE.command
@dataclass(kw_only=True)
class Health(EncoderOptions, ResultOptions):
    """Measure RankMe, alignment, uniformity and spread of features, and distance and entropy of every head.

    Encoders kept by `pretrain --keep-every` are measured too, as curves over training. No labels are used.
    """

    count: Annotated[int, typer.Option("--count", min=2, help="Images of val; all if there are fewer.")] = 2000
    timeline_count: Annotated[
        int, typer.Option("--timeline-count", min=2, help="Images for each encoder kept during training.")
    ] = 500
    views: Annotated[str, typer.Option("--views", metavar="|".join(VIEWS), help=VIEWS_HELP)] = "standard"

    def execute(self) -> None:
        """Print the measures of the encoder, of its heads, and of those kept during training."""
        here = self.open_run()
        if self.views not in VIEWS:
            raise UsageError(f"--views {self.views}: must be {' or '.join(VIEWS)}")
        self.no_pixels("has no encoder to measure")
        source = resolve(here, self)
        kept = here.kept_encoders() if source.kind == "run" else []
        inputs = {"data": here.need(here.manifest), **source.files} | {
            f"kept {epochs:g}": path for epochs, path in kept
        }
        if self.views == "recipe":
            inputs["recipe"] = here.need(here.recipe)

        where, bits = self.place()
        config: Result = {
            **source.config(),
            "count": self.count,
            "timeline_count": self.timeline_count if kept else None,
            "views": self.views,
            "seed": self.seed,
            "precision": bits,
        }
        results = perform(
            here,
            STAGE,
            variant="" if self.views == "standard" else "recipe-views",
            prepare=lambda: _prepare(here, config, build(source, where, bits)),
            work=lambda folder, ready: _measure(folder, here, config, *ready),
            config=config,
            inputs=inputs,
            how={"device": self.place_described()},
            force=self.force,
        )
        show(results, _lines(results), self.json)


def _prepare(run: Run, config: Result, frozen: "FrozenEncoder") -> "tuple[FrozenEncoder, HealthImages]":
    """The encoder, and all the images that it is measured on.

    Raises:
        SslkitError: too few images, or views whose size is not a multiple of the patch size.
    """
    from sslkit.data.shards import open_split
    from sslkit.probes.inspect.health import STANDARD_VIEWS, HealthImages, drawn_rows, pair_views
    from sslkit.recipe.schema import resolve as read_recipe

    section = read_recipe([run.recipe]).views if config["views"] == "recipe" else STANDARD_VIEWS
    split = open_split(run.data, "val")
    if len(split) < 2:
        raise SslkitError(
            f"val of {run.data} has {number_of(len(split), 'image')}: health compares images and requires 2 or more"
        )
    say_enlarged(run, frozen.size, ["val"])
    rows = drawn_rows(len(split), config["count"], config["seed"])
    return frozen, HealthImages(split, rows, pair_views(section, frozen.encoder, config["seed"]))


def _measure(folder: Path, run: Run, config: Result, frozen: "FrozenEncoder", images: "HealthImages") -> Result:
    from sslkit.files import write_json
    from sslkit.probes.inspect.attention_meter import AttentionMeter
    from sslkit.probes.inspect.health import representation

    run.remember_data()
    why = frozen.encoder.why_no_attention(cls=False)
    meter = None if why else AttentionMeter(frozen.encoder)
    measured = representation(frozen, images, meter, "health")
    if not all(map(math.isfinite, measured.values())):
        raise SslkitError(
            f"features of {run.path} hold NaN or infinity; did the training run diverge? See {run.metrics}"
        )
    results: Result = {**measured, "images": len(images.rows), "width": frozen.encoder.width}
    results |= {"views": config["views"], "pictures": []}
    if meter is None:
        say(f"attention distance and entropy are not measured: {why}")
    else:
        results |= _heads(meter, folder, results["pictures"])
    if config["weights"] != "run":
        results["timeline"] = []
    else:
        results |= _timeline(folder, run, config, frozen, images, results["pictures"])
    write_json(folder / "results.json", results)
    return results


def _timeline(
    folder: Path,
    run: Run,
    config: Result,
    frozen: "FrozenEncoder",
    images: "HealthImages",
    pictures: list[dict[str, str]],
) -> Result:
    """The measures of every encoder kept during training, and a picture of them."""
    from sslkit.plots.inspect.health import draw_timeline
    from sslkit.probes.inspect.health import drawn_rows, representation
    from sslkit.weights.read import load_encoder

    kept = run.kept_encoders()
    if not kept:
        say("no curves over training: they require `sslkit pretrain --keep-every EPOCHS`")
        return {"timeline": []}
    images = replace(images, rows=drawn_rows(len(images.split), config["timeline_count"], config["seed"]))
    rows: list[Result] = []
    for epochs, path in kept:
        encoder = load_encoder(run.need(path), run.encoder_info).to(frozen.device).eval()
        measured = representation(replace(frozen, encoder=encoder), images, title=f"health, epoch {epochs:g}")
        rows.append({"epoch": epochs, **{k: v if math.isfinite(v) else None for k, v in measured.items()}})
    pictures.append(draw_timeline(rows, len(images.rows), folder / "timeline.png"))
    return {"timeline": rows, "timeline_images": len(images.rows)}


def _heads(meter: "AttentionMeter", folder: Path, pictures: list[dict[str, str]]) -> Result:
    """Distance and entropy of the heads, and a picture of each."""
    from sslkit.plots.inspect.health import draw_heads

    found = meter.per_head()
    uniform = {"distance": float(meter.distances.mean()), "entropy": math.log(len(meter.distances))}
    pictures += [draw_heads(name, found[name], uniform[name], folder / f"attention-{name}.png") for name in uniform]
    return {"per_head": found, "uniform_distance": uniform["distance"], "ln_patches": uniform["entropy"]}


def _lines(results: Result) -> list[str]:
    lines = [
        f"RankMe {results['rankme']:.1f} (at most {min(results['images'], results['width'])}), alignment "
        f"{results['alignment']:.3f}, uniformity {results['uniformity']:.3f}, feature std {results['feature_std']:.3f} "
        f"({number_of(results['images'], 'image')})"
    ]
    if heads := results.get("per_head"):
        lines.append(
            f"uniform attention: distance {results['uniform_distance']:.1f} pixels, entropy ln N = "
            f"{results['ln_patches']:.2f}; range over each layer's heads:"
        )
        rows = [
            [layer, f"{min(far):.1f} - {max(far):.1f}", f"{min(flat):.2f} - {max(flat):.2f}"]
            for layer, (far, flat) in enumerate(zip(heads["distance"], heads["entropy"], strict=True), 1)
        ]
        lines += table([["layer", "distance (px)", "entropy (nats)"], *rows])
    if results["timeline"]:
        rows = [
            [f"{row['epoch']:g}", *("-" if row[key] is None else f"{row[key]:.3f}" for key in MEASURES)]
            for row in results["timeline"]
        ]
        lines += [
            f"over training, {number_of(results['timeline_images'], 'image')}:",
            *table([["epoch", *MEASURES], *rows]),
        ]
    return lines
