"""``sslkit knn``: weighted k-NN on frozen features, reported at a k fixed beforehand with the sweep next to it.

Two variants measure what few labels give: ``knn:labels-0.01`` has only that share of train in its bank, and
``knn:shots`` compares val with the mean of a handful of images per class.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sslkit.errors import number_of
from stages.contract.layout import Result, Run, transferred
from stages.contract.output import say, show, table
from stages.contract.perform import perform
from stages.contract.stage import Draws, Stage
from stages.inputs.features.labels import few_labels, labels_variant
from stages.inputs.features.splits import feature_files, open_splits, save_predictions
from stages.options.basic import DataOptions, LabelFractionOption, ResultOptions, SeedOption

if TYPE_CHECKING:
    from sslkit.probes.features.features import Features

SHOTS = "shots"
Evaluate = Callable[[Path, "tuple[Features, Features]", Result], Result]


def _draws(results: Mapping[str, Any]) -> Draws | None:
    """Few-shot results are a mean over draws of the labelled images; the most shots are their headline."""
    if SHOTS not in results:
        return None
    most = results[SHOTS][-1]
    setting = f"{most['shots']} shot{'s' if most['shots'] > 1 else ''}"
    return Draws(setting, most["draws"], most["interval"])


STAGE = Stage(
    name="knn",
    help="Evaluate features by nearest neighbours.",
    order=40,
    folder="knn",
    title="k-NN",
    expected=True,
    evaluates=True,
    protocol=("k", "temperature", "label_fraction", "shots", "draws"),
    settled=("k",),
    variants={SHOTS: "few-shot"},
    draws=_draws,
)


@STAGE.command
@dataclass(kw_only=True)
class Knn(DataOptions, ResultOptions):
    """Classify val by its nearest neighbours in train (exact search, cosine similarity, weighted votes)."""

    k: Annotated[
        list[int] | None,
        typer.Option("--k", help="Neighbours; repeatable. Default: 10, 20, 100, 200, headline 20.", show_default=False),
    ] = None
    temperature: Annotated[float, typer.Option("--temperature", help="A vote weighs exp(cosine / this).")] = 0.07
    label_fraction: LabelFractionOption = None
    shots: Annotated[
        str | None,
        typer.Option(
            "--shots",
            metavar="1,5,10",
            help="Few-shot instead: the nearest class mean of so many images per class. Writes knn-shots/.",
            show_default=False,
        ),
    ] = None
    draws: Annotated[int, typer.Option("--draws", min=1, help="Draws of labelled images, with --shots.")] = 20
    seed: SeedOption = 0

    def execute(self) -> None:
        """Evaluate, and print the accuracies."""
        if not self.temperature > 0:
            raise typer.BadParameter(f"--temperature {self.temperature} must be above 0")
        few = labels_variant(self.label_fraction)
        run = transferred(self.run, self.data)
        if self.shots is None:
            results = self._classify(run, few)
            show(results, _lines(results), self.json)
            return
        if self.k or few:
            raise typer.BadParameter("--shots uses no neighbours: leave out --k and --label-fraction")
        results = self._few_shot(run, _counts(self.shots))
        show(results, _few_shot_lines(results), self.json)

    def _classify(self, run: Run, few: str) -> Result:
        config: Result = {"k": self.k or "sweep", "temperature": self.temperature}
        if few:
            config |= {"label_fraction": self.label_fraction, "seed": self.seed}
        return self._evaluate(run, few, config, _classified)

    def _few_shot(self, run: Run, counts: list[int]) -> Result:
        return self._evaluate(run, SHOTS, {"shots": counts, "draws": self.draws, "seed": self.seed}, _few_shots)

    def _evaluate(self, run: Run, variant: str, config: Result, evaluate: Evaluate) -> Result:
        return perform(
            run,
            STAGE,
            variant=variant,
            prepare=lambda: open_splits(run),
            work=lambda folder, splits: evaluate(folder, splits, config),
            config=config,
            inputs=feature_files(run, ["cls"]),
            force=self.force,
        )


def _classified(folder: Path, splits: "tuple[Features, Features]", config: Result) -> Result:
    from sslkit.files import write_json
    from sslkit.probes.classify.knn import knn

    train, val = few_labels(splits[0], config), splits[1]
    ks = None if config["k"] == "sweep" else config["k"]
    found = knn(train, val, ks, config["temperature"], progress=True)
    if found.remark:
        say(found.remark)
    headline = next(row for row in found.sweep if row["k"] == found.k)
    results = {**{key: headline[key] for key in ("top1", "top5", "k", "temperature")}, "sweep": found.sweep}
    results |= {"train_images": len(train), "val_images": len(val)}
    if "label_fraction" in config:
        results["label_fraction"] = config["label_fraction"]
    save_predictions(folder / "predictions.npz", val, found.predicted)
    write_json(folder / "results.json", results)
    return results


def _counts(text: str) -> list[int]:
    try:
        counts = sorted({int(word) for word in text.split(",")})
    except ValueError:
        counts = []
    if not counts or counts[0] < 1:
        raise typer.BadParameter(f"--shots {text}: expected images per class, whole numbers from 1, such as 1,5,10")
    return counts


def _few_shots(folder: Path, splits: "tuple[Features, Features]", config: Result) -> Result:
    """``top1`` and ``top5`` are the means at the most shots; the predictions are those of their first draw."""
    from sslkit.files import write_json
    from sslkit.probes.classify.few_shot import few_shot
    from sslkit.statistics.intervals import interval

    train, val = splits
    found = few_shot(train, val, config["shots"], config["draws"], config["seed"], progress=True)
    rows = []
    for shots, top1, top5 in zip(found.shots, found.top1.tolist(), found.top5.tolist(), strict=True):
        mean, half = interval(top1)
        rows.append({"shots": shots, "top1": mean, "interval": half, "top5": interval(top5)[0], "draws": len(top1)})
    results = {"top1": rows[-1]["top1"], "top5": rows[-1]["top5"], "shots": rows}
    results |= {"train_images": len(train), "val_images": len(val)}
    save_predictions(folder / "predictions.npz", val, found.predicted)
    write_json(folder / "results.json", results)
    return results


def _lines(results: Result) -> list[str]:
    rows = [[row["k"], row["top1"], row["top5"]] for row in results["sweep"]]
    few = f", {number_of(results['train_images'], 'label')}" if "label_fraction" in results else ""
    head = f"k-NN top-1 {results['top1']:.2f} %, top-5 {results['top5']:.2f} % (k = {results['k']}{few})"
    return [head, *table([["k", "top1", "top5"], *rows])]


def _few_shot_lines(results: Result) -> list[str]:
    rows = [[row["shots"], _with_interval(row), row["top5"]] for row in results["shots"]]
    draws = number_of(results["shots"][0]["draws"], "draw")
    head = f"few-shot top-1, mean and 95 % interval over {draws} of the labelled images"
    return [head, *table([["shots", "top1", "top5"], *rows])]


def _with_interval(row: Result) -> str:
    return f"{row['top1']:.1f}" if row["interval"] is None else f"{row['top1']:.1f} ± {row['interval']:.1f}"
