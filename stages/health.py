"""``sslkit health``: collapse and quality of a representation without labels, and what its heads do."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sslkit.errors import SslkitError, UsageError
from stages.contract.layout import Result, Run
from stages.contract.output import say, show, table
from stages.contract.perform import perform
from stages.contract.stage import Stage
from stages.inputs.encoder import EncoderSource, build
from stages.options.basic import ForceOption, JsonOption, RunArgument
from stages.options.encoder import EncoderChoice, takes_encoder

if TYPE_CHECKING:
    import torch

    from sslkit.probes.inspect.health import Sample

VIEWS = ("standard", "recipe")
VIEWS_HELP = (
    "Pairs for alignment: standard (crop, flip, colours; runs compare) or recipe (those of the run's training), a "
    "variant of its own."
)
MEASURES = ("rankme", "alignment", "uniformity", "feature_std")


STAGE = Stage(
    name="health", help="Measure rank, spread and heads, without labels.", order=100, folder="health", evaluates=True
)


@STAGE.command
@takes_encoder
def health(
    run: RunArgument,
    *,
    count: Annotated[int, typer.Option("--count", min=2, help="Images of val; all of fewer.")] = 2000,
    timeline_count: Annotated[
        int, typer.Option("--timeline-count", min=2, help="Images for each encoder that the training kept.")
    ] = 500,
    views: Annotated[str, typer.Option("--views", metavar="|".join(VIEWS), help=VIEWS_HELP)] = "standard",
    encoder: EncoderChoice,
    json: JsonOption = False,
    force: ForceOption = False,
) -> None:
    """Measure RankMe, alignment, uniformity and spread of features, and distance and entropy of every head.

    The encoders that `pretrain --keep-every` kept are measured too, as curves over training. No labels are read.
    """
    here = encoder.open(run)
    if views not in VIEWS:
        raise UsageError(f"--views {views}: it is {' or '.join(VIEWS)}")
    encoder.no_pixels("has no encoder to look at")
    source = encoder.source(here)
    inputs = {"data": here.need(here.manifest), **source.files}
    kept = here.kept_encoders() if source.kind == "run" else []
    inputs |= {f"kept {epochs:g}": path for epochs, path in kept}
    if views == "recipe":
        inputs["recipe"] = here.need(here.recipe)

    where, bits = encoder.place()
    config: Result = {
        **source.config(),
        "count": count,
        "timeline_count": timeline_count if kept else None,
        "views": views,
        "seed": encoder.seed,
        "precision": bits,
    }
    job = Job(here, source, config, where)
    results = perform(
        here,
        STAGE,
        variant="" if views == "standard" else "recipe-views",
        prepare=job.check,
        work=lambda folder, _: job.work(folder),
        config=config,
        inputs=inputs,
        how={"device": str(where)},
        force=force,
    )
    show(results, _lines(results), json)


@dataclass
class Job:
    """One call. ``check`` comes before ``work``."""

    run: Run
    source: EncoderSource
    config: Result
    device: "torch.device"

    def check(self) -> None:
        """Open encoder and images.

        Raises:
            SslkitError: weights that do not fit, too few images, or views that patches do not divide.
        """
        self.built = build(self.source, self.device, self.config["precision"])
        self.sample = self._sample(self.config["count"])

    def work(self, folder: Path) -> Result:
        """Measure, draw, write."""
        from sslkit.files import write_json
        from sslkit.probes.inspect.health import AttentionMeter, representation

        self.run.remember_data()
        encoder = self.built.encoder.to(self.device)
        why = encoder.why_no_attention(cls=False)
        meter = None if why else AttentionMeter(encoder)
        measured = representation(encoder, self.sample, meter, "health")
        if not all(map(math.isfinite, measured.values())):
            raise SslkitError(
                f"features of {self.run.path} hold NaN or infinity; did the training diverge? look at "
                f"{self.run.metrics}"
            )
        results: Result = {**measured, "images": len(self.sample.rows), "width": encoder.width}
        results |= {"views": self.config["views"], "pictures": []}
        if meter is None:
            say(f"no attention distance and entropy: {why}")
        else:
            results |= _heads(meter, folder, results["pictures"])
        results |= self._timeline(folder, results["pictures"])
        write_json(folder / "results.json", results)
        return results

    def _sample(self, count: int) -> "Sample":
        from sslkit.data.shards import open_split
        from sslkit.probes.inspect.health import STANDARD_VIEWS, Sample, chosen, pair_views
        from sslkit.recipe.schema import resolve as read_recipe

        config, built = self.config, self.built
        section = read_recipe([self.run.recipe]).views if config["views"] == "recipe" else STANDARD_VIEWS
        split = open_split(self.run.data, "val")
        if len(split) < 2:
            raise SslkitError(
                f"val of {self.run.data} has {len(split)} images: health compares images and needs 2 or more"
            )
        rows = chosen(len(split), count, config["seed"])
        maker = pair_views(section, built.encoder, config["seed"])
        return Sample(split, rows, maker, built.mean, built.std, self.device, config["precision"])

    def _timeline(self, folder: Path, pictures: list[dict[str, str]]) -> Result:
        """The measures of every encoder that the training kept, and a picture of them."""
        from sslkit.plots.inspect.health import draw_timeline
        from sslkit.probes.inspect.health import representation
        from sslkit.weights.read import load_encoder

        kept = self.run.kept_encoders() if self.source.kind == "run" else []
        if not kept:
            if self.source.kind == "run":
                say("no curve over training: `sslkit pretrain --keep-every EPOCHS` keeps the encoders for it")
            return {"timeline": []}
        sample = self._sample(self.config["timeline_count"])
        rows: list[Result] = []
        for epochs, path in kept:
            encoder = load_encoder(path, self.run.encoder_info).to(self.device)
            measured = representation(encoder, sample, title=f"health, epoch {epochs:g}")
            rows.append({"epoch": epochs, **{k: v if math.isfinite(v) else None for k, v in measured.items()}})
        pictures.append(draw_timeline(rows, len(sample.rows), folder / "timeline.png"))
        return {"timeline": rows, "timeline_images": len(sample.rows)}


def _heads(meter: Any, folder: Path, pictures: list[dict[str, str]]) -> Result:
    """What the heads do, and two pictures of it."""
    from sslkit.plots.inspect.health import draw_distance, draw_entropy

    found = meter.per_head()
    uniform, ceiling = float(meter.distances.mean()), math.log(len(meter.distances))
    pictures.append(draw_distance(found["distance"], uniform, folder / "attention-distance.png"))
    pictures.append(draw_entropy(found["entropy"], ceiling, folder / "attention-entropy.png"))
    return {"per_head": found, "uniform_distance": uniform, "ln_patches": ceiling}


def _lines(results: Result) -> list[str]:
    lines = [
        f"RankMe {results['rankme']:.1f} (at most {min(results['images'], results['width'])}), alignment "
        f"{results['alignment']:.3f}, uniformity {results['uniformity']:.3f}, feature std {results['feature_std']:.3f} "
        f"({results['images']} images)"
    ]
    if heads := results.get("per_head"):
        lines.append(
            f"attention to all alike: distance {results['uniform_distance']:.1f} pixels, entropy ln N = "
            f"{results['ln_patches']:.2f}; of each layer's heads:"
        )
        rows = [
            [layer, f"{min(far):.1f} - {max(far):.1f}", f"{min(flat):.2f} - {max(flat):.2f}"]
            for layer, (far, flat) in enumerate(zip(heads["distance"], heads["entropy"], strict=True), 1)
        ]
        lines += table([["layer", "distance (px)", "entropy (nats)"], *rows])
    if results["timeline"]:
        rows = [[f"{row['epoch']:g}", *(_shown(row[key]) for key in MEASURES)] for row in results["timeline"]]
        lines += [f"over training, {results['timeline_images']} images:", *table([["epoch", *MEASURES], *rows])]
    return lines


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
