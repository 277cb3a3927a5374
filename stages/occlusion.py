"""``sslkit occlusion``: accuracy of the linear probe as patches are dropped."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sslkit.errors import SslkitError, UsageError, number_of
from stages.contract.layout import Result, Run
from stages.contract.output import say, show, table
from stages.contract.perform import perform
from stages.contract.record import fingerprints
from stages.contract.stage import Stage
from stages.contract.stale import changed_inputs
from stages.inputs.encoder import EncoderSource, build, resolve
from stages.inputs.enlarging import say_enlarged
from stages.options.basic import ResultOptions
from stages.options.encoder import EncoderOptions

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from sslkit.data.shards import Split
    from sslkit.encoder.frozen import FrozenEncoder
    from sslkit.probes.classify.linear_classifier import LinearClassifier

LINEAR = {"features": str, "top1": float}  # what is read of the linear probe's results
DEFAULT_SHARES = "0,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9"
SHARES_HELP = "Shares of the patches, separated by commas; 0 is always added."
DROPS = {"pixels": "patches set to the mean colour", "tokens": "patches kept out of the blocks"}
DROP_HELP = (
    "pixels: the patch becomes the mean colour (any model); tokens: it never enters the blocks (ViTs); writes "
    "occlusion-tokens/."
)
STAGE = Stage(
    name="occlusion",
    help="Evaluate the linear probe with patches missing.",
    order=90,
    folder="occlusion",
    evaluates=True,
)


@STAGE.command
@dataclass(kw_only=True)
class Occlusion(EncoderOptions, ResultOptions):
    """Evaluate the linear probe on images with patches missing: random, most attended, or least attended ones.

    Name the encoder as you did for `extract`; the default is the run's own.
    """

    drop: Annotated[str, typer.Option("--drop", metavar="pixels|tokens", help=DROP_HELP)] = "pixels"
    shares: Annotated[str, typer.Option("--shares", metavar="LIST", help=SHARES_HELP)] = DEFAULT_SHARES
    draws: Annotated[int, typer.Option("--draws", min=1, help="Random orders per image.")] = 3
    count: Annotated[
        int, typer.Option("--count", min=1, help="Images of val, balanced over classes; all if fewer.")
    ] = 1000

    def execute(self) -> None:
        """Print the accuracy for each share of dropped patches."""
        if self.drop not in DROPS:
            raise UsageError(f"--drop {self.drop}: must be pixels or tokens")
        wanted = parse_shares(self.shares)
        here = self.open_run()
        head, probe = here.need(here.linear_head), here.need(here.results("linear"))
        manifest = here.need(here.manifest)
        source = _source(here, self)

        where, bits = self.place()
        config: Result = {
            **source.config(),
            "drop": self.drop,
            "shares": wanted,
            "draws": self.draws,
            "count": self.count,
            "seed": self.seed,
            "precision": bits,
        }
        inputs = {"data": manifest, "head": head, "probe": probe, **source.files}
        if here.features_info.exists():
            inputs["features"] = here.features_info  # names the encoder of the head's features
        results = perform(
            here,
            STAGE,
            variant="" if self.drop == "pixels" else self.drop,
            prepare=lambda: _prepare(here, config, build(source, where, bits)),
            work=lambda folder, ready: _occlude(folder, here, config, *ready),
            config=config,
            inputs=inputs,
            how={"device": self.place_described()},
            force=self.force,
        )
        show(results, _lines(results), self.json)


def parse_shares(text: str) -> list[float]:
    """The shares of ``--shares``, ascending, with 0.

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
        raise UsageError(f"--shares {text}: must be numbers from 0 to below 1, separated by commas, such as 0,0.25,0.5")
    return sorted(shares | {0.0})


def _source(run: Run, options: EncoderOptions) -> EncoderSource:
    """The encoder that the features come from.

    Raises:
        SslkitError: the options name another one.
    """
    if changed := changed_inputs(run, "linear"):
        raise SslkitError(
            f"{', '.join(changed)} changed since the linear head was trained: run `sslkit linear {run.path} --force`"
        )
    record = run.record("extract")
    if record is None:  # another program's features: linear_top1 and intact_top1 show whether the encoder fits
        return resolve(run, options)
    made = record["config"]
    advice = f"{run.features} was made by `{record['command']}`: name its encoder by the same options"
    if made["weights"] == "pixels":
        raise SslkitError(f"{run.features} holds raw pixels, but occlusion evaluates encoders: name a pretrained run")
    if made["weights"] != "run" and options.own:
        raise SslkitError(advice)
    size, patch = made["image_size"], made["encoder"].get("patch_size") if options.arch else None
    source = resolve(run, options, size, patch)
    read = fingerprints(source.files, run.path).get("weights", {}).get("sha256")
    same = source.config() == {key: made[key] for key in source.config()}
    if not same or read != record["inputs"].get("weights", {}).get("sha256"):
        raise SslkitError(advice)
    return source


def _head(path: Path) -> "dict[str, Tensor]":
    """Weight and bias of the linear probe.

    Raises:
        DamagedFile: the file does not hold them.
    """
    import safetensors.torch

    from sslkit.artifacts import DamagedFile

    try:
        head = safetensors.torch.load(path.read_bytes())
    except (safetensors.SafetensorError, ValueError) as error:
        raise DamagedFile(path, str(error).splitlines()[0]) from error
    if {"weight", "bias"} - head.keys() or head["weight"].ndim != 2 or head["bias"].shape != head["weight"].shape[:1]:
        raise DamagedFile(path, "it holds no weight with its bias")
    return head


def _prepare(run: Run, config: Result, frozen: "FrozenEncoder") -> "tuple[LinearClassifier, Split, np.ndarray]":
    """The classifier, and the images to evaluate it on.

    Raises:
        SslkitError: a head for other features, tokens that cannot be dropped, or no labels.
    """
    from sslkit.artifacts import read_json
    from sslkit.data.shards import open_split
    from sslkit.probes.classify.linear_classifier import LinearClassifier
    from sslkit.probes.inspect.occlusion import balanced_rows

    head = _head(run.need(run.linear_head))
    features = read_json(run.need(run.results("linear")), LINEAR)["features"]
    probe = LinearClassifier(frozen, head["weight"], head["bias"], features)
    probe.check_drop(config["drop"])
    split = open_split(run.data, "val")
    say_enlarged(run, frozen.size, ["val"])
    return probe, split, balanced_rows(split.labels, config["count"], config["seed"])


def _occlude(
    folder: Path, run: Run, config: Result, probe: "LinearClassifier", split: "Split", rows: "np.ndarray"
) -> Result:
    from sslkit.artifacts import read_json
    from sslkit.files import write_json
    from sslkit.plots.inspect.occlusion import draw_occlusion
    from sslkit.probes.inspect.occlusion import OcclusionSettings, area, batches_of, classify, curve, masked

    run.remember_data()
    if why := probe.frozen.encoder.why_no_attention():
        say(f"random patches only: {why}, so there is no attention to rank patches by")
    has = masked(split, rows)
    if has.any() and not has.all():
        say(f"objects are not dropped: {int((~has).sum())} of the {len(has)} images have no object mask")
    settings = OcclusionSettings(config["shares"], config["draws"], config["drop"], config["seed"])
    hits = classify(batches_of(split, rows, probe, "occlusion"), probe, settings)
    patches = (probe.frozen.size // probe.patch_size) ** 2
    curves = {kind: curve(right, settings.shares, patches) for kind, right in hits.items()}
    areas = {kind: area(settings.shares, [row["top1"] for row in points]) for kind, points in curves.items()}
    chance = 100 / len(probe.weight)
    results: Result = {
        "area": areas,
        "intact_top1": curves["random"][0]["top1"],
        "linear_top1": read_json(run.need(run.results("linear")), LINEAR)["top1"],
        "images": len(rows),
        "drop": settings.drop,
        "draws": settings.draws,
        "patches": patches,
        "patch_size": probe.patch_size,
        "chance": chance,
        "curves": curves,
    }
    results["pictures"] = [draw_occlusion(curves, areas, chance, folder / "occlusion.png")]
    write_json(folder / "results.json", results)
    return results


def _lines(results: Result) -> list[str]:
    curves, areas = results["curves"], results["area"]
    means = ", ".join(f"{kind} {value:.1f} %" for kind, value in areas.items())
    rows = [
        [f"{100 * row['share']:.0f} %", *(curves[kind][index]["top1"] for kind in curves)]
        for index, row in enumerate(curves["random"])
    ]
    return [
        f"{number_of(results['images'], 'image')}, {DROPS[results['drop']]}; area under the curve (mean top-1 along "
        f"it): {means}",
        *table([["dropped", *curves], *rows]),
    ]
