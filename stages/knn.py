"""``sslkit knn``: weighted k-NN on frozen features, reported at the k fixed beforehand with the sweep beside it."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from stages.options import DataOption, ForceOption, JsonOption, RunArgument
from stages.output import say, show, table
from stages.run import Result, Run, transferred


def knn(
    run: RunArgument,
    k: Annotated[
        Optional[list[int]],  # noqa: UP045  typer reads the annotation at run time on Python 3.10
        typer.Option("--k", help="Neighbours; repeatable. Default: 10, 20, 100, 200, headline 20.", show_default=False),
    ] = None,
    temperature: Annotated[float, typer.Option("--temperature", help="Votes are exp(cosine / this).")] = 0.07,
    data: DataOption = None,
    json: JsonOption = False,
    force: ForceOption = False,
) -> None:
    """Classify val by its nearest neighbours in train (exact, cosine, weighted votes)."""
    here = transferred(run, data)
    if not temperature > 0:
        raise typer.BadParameter(f"--temperature {temperature}: it is above 0")
    results = here.perform(
        "knn",
        lambda folder: _work(here, k or None, temperature),
        config={"k": k or "sweep", "temperature": temperature},
        inputs=probe_inputs(here, ["cls"]),
        force=force,
    )
    rows = [[row["k"], row["top1"], row["top5"]] for row in results["sweep"]]
    head = f"k-NN top-1 {results['top1']:.2f} %, top-5 {results['top5']:.2f} % (k = {results['k']})"
    show(results, [head, *table([["k", "top1", "top5"], *rows])], json)


def probe_inputs(run: Run, arrays: list[str]) -> dict[str, Path]:
    """What a probe reads, by name: ``features.json`` vouches for the arrays; features of another program have none."""
    files = {f"{split}/{name}": run.feature(split, name) for split in ("train", "val") for name in [*arrays, "labels"]}
    for path in files.values():
        run.need(path, "extract")
    return {"features": run.features_info} if run.features_info.exists() else files


def _work(run: Run, ks: list[int] | None, temperature: float) -> Result:
    import numpy as np

    from sslkit.files import atomic, write_json
    from sslkit.probes.features import open_features
    from sslkit.probes.knn import knn as classify

    train, val = (open_features([run.feature(s, "cls")], run.feature(s, "labels")) for s in ("train", "val"))
    found = classify(train, val, ks, temperature, progress=True)
    if found.remark:
        say(found.remark)
    headline = next(row for row in found.sweep if row["k"] == found.k)
    results = {**{key: headline[key] for key in ("top1", "top5", "k", "temperature")}, "sweep": found.sweep}
    results |= {"train_images": len(train), "val_images": len(val)}
    with atomic(run.predictions("knn")) as handle:
        np.savez(handle, rows=val.rows, labels=val.labels, predicted=found.predicted)
    write_json(run.results("knn"), results)
    return results
