"""``sslkit occlusion``: how many patches can be taken away before the linear probe errs, and which."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sslkit.errors import SslkitError, UsageError
from stages.contract.layout import Result, Run
from stages.contract.output import say, show, table
from stages.contract.perform import perform
from stages.contract.record import fingerprints
from stages.contract.stage import Stage
from stages.inputs.encoder import EncoderSource, build
from stages.options.basic import ForceOption, JsonOption, RunArgument
from stages.options.encoder import EncoderChoice, takes_encoder

if TYPE_CHECKING:
    import torch

    from sslkit.encoder.frozen import FrozenEncoder
    from sslkit.probes.classify.linear_classifier import LinearClassifier

DEFAULT_SHARES = "0,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9"
DROPS = {"pixels": "patches set to the mean colour", "tokens": "patches kept out of the blocks"}
DROP_HELP = (
    "pixels: the patch becomes the mean colour (any model); tokens: it never enters the blocks (ViTs), a variant of "
    "its own."
)


STAGE = Stage(
    name="occlusion",
    help="Evaluate the linear probe with patches missing.",
    order=90,
    folder="occlusion",
    evaluates=True,
)


@STAGE.command
@takes_encoder
def occlusion(
    run: RunArgument,
    *,
    drop: Annotated[str, typer.Option("--drop", metavar="pixels|tokens", help=DROP_HELP)] = "pixels",
    shares: Annotated[
        str,
        typer.Option("--shares", metavar="LIST", help="Shares of the patches, with commas; 0 is always among them."),
    ] = DEFAULT_SHARES,
    draws: Annotated[int, typer.Option("--draws", min=1, help="Random orders per image.")] = 3,
    count: Annotated[int, typer.Option("--count", min=1, help="Images of val, class by class; all of fewer.")] = 1000,
    encoder: EncoderChoice,
    json: JsonOption = False,
    force: ForceOption = False,
) -> None:
    """Judge the linear probe on images without some patches: random, most attended, or least attended ones.

    The encoder is named as it was for `extract`; by default it is the run's own.
    """
    if drop not in DROPS:
        raise UsageError(f"--drop {drop}: it is pixels or tokens")
    wanted = parse_shares(shares)
    here = encoder.open(run)
    head, probe = here.need(here.linear_head), here.need(here.results("linear"))
    manifest = here.need(here.manifest)
    source = _source(here, encoder)

    where, bits = encoder.place()
    config: Result = {
        **source.config(),
        "drop": drop,
        "shares": wanted,
        "draws": draws,
        "count": count,
        "seed": encoder.seed,
        "precision": bits,
    }
    inputs = {"data": manifest, "head": head, "probe": probe, **source.files}
    if here.features_info.exists():
        inputs["features"] = here.features_info  # says of which encoder the head's features are
    job = Job(here, source, config, where)
    results = perform(
        here,
        STAGE,
        variant="" if drop == "pixels" else drop,
        prepare=job.check,
        work=lambda folder, _: job.work(folder),
        config=config,
        inputs=inputs,
        how={"device": str(where)},
        force=force,
    )
    show(results, _lines(results), json)


def parse_shares(text: str) -> list[float]:
    """Ascending, with 0.

    >>> parse_shares("0.5, 0.25")
    [0.0, 0.25, 0.5]

    Raises:
        UsageError: not numbers from 0 to below 1.
    """
    try:
        shares = {float(word) for word in text.split(",")}
    except ValueError:
        shares = {-1.0}
    if not all(0 <= share < 1 for share in shares):
        raise UsageError(f"--shares {text}: numbers from 0 to below 1 with commas between them, such as 0,0.25,0.5")
    return sorted(shares | {0.0})


def _source(run: Run, encoder: EncoderChoice) -> EncoderSource:
    """The encoder that the features come from.

    Raises:
        SslkitError: the options name another one.
    """
    if changed := run.stale("linear"):
        raise SslkitError(
            f"{', '.join(changed)} changed since the linear head was trained: redo `sslkit linear {run.path} --force`"
        )
    record = run.record("extract")
    if record is None:  # features of another program: their accuracy beside the intact images' shows whether it fits
        return encoder.source(run)
    made = record["config"]
    advice = f"{run.features} was made by `{record['command']}`: name its encoder by the same options"
    if made["weights"] == "pixels":
        raise SslkitError(f"{run.features} holds raw pixels: occlusion judges encoders; try it on a pretrained run")
    if made["weights"] != "run" and encoder.own:
        raise SslkitError(advice)
    size, patch = made["image_size"], made["encoder"].get("patch_size") if encoder.arch else None
    source = encoder.source(run, size, patch)
    read = fingerprints(source.files, run.path).get("weights", {}).get("sha256")
    same = source.config() == {key: made[key] for key in source.config()}
    if not same or read != record["inputs"].get("weights", {}).get("sha256"):
        raise SslkitError(advice)
    return source


@dataclass
class Job:
    """One call. ``check`` comes before ``work``."""

    run: Run
    source: EncoderSource
    config: Result
    device: "torch.device"

    def check(self) -> None:
        """Open encoder, head and images, and refuse what cannot be judged.

        Raises:
            SslkitError: a head for other features, tokens that cannot be dropped, or no labels.
        """
        from sslkit.data.shards import open_split
        from sslkit.probes.classify.linear_classifier import check
        from sslkit.probes.inspect.occlusion import balanced

        self.built = build(self.source, self.device, self.config["precision"])
        self.probe = _probe(self.run, self.built, self.config, self.device)
        check(self.probe, self.config["drop"])
        self.split = open_split(self.run.data, "val")
        self.rows = balanced(self.split.labels, self.config["count"], self.config["seed"])

    def work(self, folder: Path) -> Result:
        """Drop, judge, draw, write."""
        from sslkit.files import read_json, write_json
        from sslkit.plots.inspect.occlusion import draw_occlusion
        from sslkit.probes.inspect.occlusion import Plan, area, curve, judge, parts_of

        self.run.remember_data()
        self._say_what_is_left_out()
        built, probe = self.built, self.probe
        plan = Plan(self.config["shares"], self.config["draws"], self.config["drop"], self.config["seed"])
        hits = judge(parts_of(self.split, self.rows, probe, built.mean, built.std, "occlusion"), probe, plan)
        patches = (self.source.image_size // probe.patch_size) ** 2
        curves = {kind: _with_draws(curve(right, plan.shares, patches)) for kind, right in hits.items()}
        areas = {kind: area(plan.shares, [row["top1"] for row in rows]) for kind, rows in curves.items()}
        chance = 100 / len(probe.weight)
        results: Result = {
            "area": areas,
            "intact_top1": curves["random"][0]["top1"],
            "linear_top1": read_json(self.run.results("linear"))["top1"],
            "images": len(self.rows),
            "drop": plan.drop,
            "draws": plan.draws,
            "patches": patches,
            "patch_size": probe.patch_size,
            "chance": chance,
            "curves": curves,
        }
        results["pictures"] = [draw_occlusion(curves, areas, chance, folder / "occlusion.png")]
        write_json(folder / "results.json", results)
        return results

    def _say_what_is_left_out(self) -> None:
        from sslkit.probes.inspect.occlusion import masked

        if why := self.built.encoder.why_no_attention():
            say(f"random patches only: {why}, so no attention tells what is salient")
        has = masked(self.split, self.rows)
        if has.any() and not has.all():
            say(f"no orders by the object: {int((~has).sum())} of the {len(has)} images have no mask of one")


def _probe(run: Run, built: "FrozenEncoder", config: Result, device: "torch.device") -> "LinearClassifier":
    import safetensors.torch

    from sslkit.files import read_json
    from sslkit.probes.classify.linear_classifier import LinearClassifier

    head = safetensors.torch.load_file(run.linear_head)
    features = read_json(run.results("linear"))["features"]
    return LinearClassifier(built.encoder, head["weight"], head["bias"], features, device, config["precision"])


def _with_draws(rows: list[Result]) -> list[Result]:
    """The rows with the half width of the 95 % interval over draws; None for a single draw."""
    from sslkit.statistics.intervals import interval

    return [{**row, "draws_interval": interval(row["draws"])[1]} for row in rows]


def _lines(results: Result) -> list[str]:
    curves, areas = results["curves"], results["area"]
    means = ", ".join(f"{kind} {value:.1f} %" for kind, value in areas.items())
    rows = [
        [f"{100 * row['share']:.0f} %", *(curves[kind][index]["top1"] for kind in curves)]
        for index, row in enumerate(curves["random"])
    ]
    return [
        f"{results['images']} images, {DROPS[results['drop']]}; area under the curve (mean top-1 along it): {means}",
        *table([["dropped", *curves], *rows]),
    ]
