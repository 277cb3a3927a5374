"""``sslkit knn``: weighted k-NN on frozen features, reported at the k fixed beforehand with the sweep beside it.

Two variants look at what few labels give: ``knn:labels-0.01`` has only that share of train in its bank, and
``knn:shots`` compares val with the mean of a handful of images per class.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from stages.contract.output import say, show, table
from stages.contract.run import Result, Run, transferred
from stages.inputs.labels import few_labels, labels_variant
from stages.options.basic import DataOption, ForceOption, JsonOption, LabelFractionOption, RunArgument, SeedOption

if TYPE_CHECKING:
    from sslkit.probes.features.features import Features


def knn(
    run: RunArgument,
    k: Annotated[
        Optional[list[int]],  # noqa: UP045  typer reads the annotation at run time on Python 3.10
        typer.Option("--k", help="Neighbours; repeatable. Default: 10, 20, 100, 200, headline 20.", show_default=False),
    ] = None,
    temperature: Annotated[float, typer.Option("--temperature", help="Votes are exp(cosine / this).")] = 0.07,
    label_fraction: LabelFractionOption = None,
    shots: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--shots",
            metavar="1,5,10",
            help="Few-shot instead: nearest mean of so many images per class; as a variant.",
            show_default=False,
        ),
    ] = None,
    draws: Annotated[int, typer.Option("--draws", min=1, help="Supports drawn for each count of --shots.")] = 20,
    seed: SeedOption = 0,
    data: DataOption = None,
    json: JsonOption = False,
    force: ForceOption = False,
) -> None:
    """Classify val by its nearest neighbours in train (exact, cosine, weighted votes)."""
    here = transferred(run, data)
    if not temperature > 0:
        raise typer.BadParameter(f"--temperature {temperature}: it is above 0")
    share = labels_variant(label_fraction)
    if shots is not None:
        if k or label_fraction is not None:
            raise typer.BadParameter("--shots has neither neighbours nor votes: leave --k and --label-fraction out")
        few_shot = {"shots": _counts(shots), "draws": draws, "seed": seed}
        results = here.perform(
            "knn:shots",
            lambda folder: _few_shot(here, few_shot),
            config=few_shot,
            inputs=probe_inputs(here, ["cls"]),
            check=lambda: _splits(here),
            force=force,
        )
        show(results, _few_shot_lines(results), json)
        return
    stage = f"knn:{share}" if share else "knn"
    config: Result = {"k": k or "sweep", "temperature": temperature}
    if label_fraction is not None:
        config |= {"label_fraction": label_fraction, "seed": seed}
    results = here.perform(
        stage,
        lambda folder: _work(here, stage, k or None, config),
        config=config,
        inputs=probe_inputs(here, ["cls"]),
        check=lambda: _splits(here),
        force=force,
    )
    rows = [[row["k"], row["top1"], row["top5"]] for row in results["sweep"]]
    few = f", {results['train_images']} labels" if label_fraction is not None else ""
    head = f"k-NN top-1 {results['top1']:.2f} %, top-5 {results['top5']:.2f} % (k = {results['k']}{few})"
    show(results, [head, *table([["k", "top1", "top5"], *rows])], json)


def probe_inputs(run: Run, arrays: list[str]) -> dict[str, Path]:
    """What a probe reads, by name: ``features.json`` vouches for the arrays; features of another program have none."""
    files = {f"{split}/{name}": run.feature(split, name) for split in ("train", "val") for name in [*arrays, "labels"]}
    for path in files.values():
        run.need(path, "extract")
    return {"features": run.features_info} if run.features_info.exists() else files


def save_predictions(run: Run, stage: str, val: "Features", predicted: Any) -> None:
    """``predictions.npz``: what a probe says of every labelled val image."""
    import numpy as np

    from sslkit.files import atomic

    with atomic(run.predictions(stage)) as handle:
        np.savez(handle, rows=val.rows, labels=val.labels, predicted=predicted)


def _splits(run: Run) -> list["Features"]:
    from sslkit.probes.features.features import open_features

    return [open_features([run.feature(s, "cls")], run.feature(s, "labels")) for s in ("train", "val")]


def _work(run: Run, stage: str, ks: list[int] | None, config: Result) -> Result:
    from sslkit.files import write_json
    from sslkit.probes.classify.knn import knn as classify

    train, val = _splits(run)
    train = few_labels(train, config)
    found = classify(train, val, ks, config["temperature"], progress=True)
    if found.remark:
        say(found.remark)
    headline = next(row for row in found.sweep if row["k"] == found.k)
    results = {**{key: headline[key] for key in ("top1", "top5", "k", "temperature")}, "sweep": found.sweep}
    results |= {"train_images": len(train), "val_images": len(val)}
    if "label_fraction" in config:
        results["label_fraction"] = config["label_fraction"]
    save_predictions(run, stage, val, found.predicted)
    write_json(run.results(stage), results)
    return results


def _counts(text: str) -> list[int]:
    try:
        counts = sorted({int(word) for word in text.split(",")})
    except ValueError:
        counts = []
    if not counts or counts[0] < 1:
        raise typer.BadParameter(f"--shots {text}: images per class, whole numbers from 1, such as 1,5,10")
    return counts


def _few_shot(run: Run, config: Result) -> Result:
    """``top1`` and ``top5`` are the means of the most shots; the predictions are those of their first draw."""
    from sslkit.files import write_json
    from sslkit.probes.classify.few_shot import few_shot
    from sslkit.statistics.intervals import interval

    train, val = _splits(run)
    found = few_shot(train, val, config["shots"], config["draws"], config["seed"], progress=True)
    rows = []
    for shots, top1, top5 in zip(found.shots, found.top1.tolist(), found.top5.tolist(), strict=True):
        mean, half = interval(top1)
        rows.append({"shots": shots, "top1": mean, "interval": half, "top5": interval(top5)[0], "draws": len(top1)})
    results = {"top1": rows[-1]["top1"], "top5": rows[-1]["top5"], "shots": rows}
    results |= {"train_images": len(train), "val_images": len(val)}
    save_predictions(run, "knn:shots", val, found.predicted)
    write_json(run.results("knn:shots"), results)
    return results


def _few_shot_lines(results: Result) -> list[str]:
    rows = [[row["shots"], _with_interval(row), row["top5"]] for row in results["shots"]]
    head = f"few-shot top-1, mean and 95 % interval over {results['shots'][0]['draws']} draws of the labelled images"
    return [head, *table([["shots", "top1", "top5"], *rows])]


def _with_interval(row: Result) -> str:
    return f"{row['top1']:.1f}" if row["interval"] is None else f"{row['top1']:.1f} ± {row['interval']:.1f}"
