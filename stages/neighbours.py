"""`sslkit neighbours RUN`: val images with their nearest train images, and the classes that are confused."""

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from sslkit.errors import SslkitError
from stages.contract.layout import Result, Run, transferred
from stages.contract.output import show, tab, table
from stages.contract.perform import perform
from stages.contract.stage import Stage
from stages.inputs.features import feature_files
from stages.options.basic import DataOption, ForceOption, JsonOption, RunArgument, SeedOption

if TYPE_CHECKING:
    import numpy as np

    from sslkit.data.shards import Split
    from sslkit.plots.inspect.neighbours import Query
    from sslkit.probes.features.features import Features

TOP = 10  # pairs of classes in the table
PAGE, SHEET, MATRIX = "index.html", "neighbours.png", "confusion.png"


class Which(str, Enum):
    """Which queries: those that k-NN gets right, or wrong, or any."""

    right = "right"
    wrong = "wrong"
    any = "any"


STAGE = Stage(name="neighbours", help="Draw images next to their nearest neighbours.", order=120, folder="neighbours")


@STAGE.command
def neighbours(
    run: RunArgument,
    count: Annotated[int, typer.Option("--count", min=1, help="Val images, class by class.")] = 12,
    k: Annotated[int, typer.Option("--k", min=1, help="Neighbours of each.")] = 8,
    only: Annotated[
        Optional[Which],  # noqa: UP045  typer reads the annotation at run time on Python 3.10
        typer.Option("--only", help="Those that k-NN gets right, wrong, or any; default: half wrong, half right."),
    ] = None,
    data: DataOption = None,
    seed: SeedOption = 0,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Draw val images beside their nearest train images by the cosine of frozen features, and the confusions."""
    here = transferred(run, data)
    inputs = feature_files(here, ["cls"])
    need_images(here, "neighbours shows pictures")
    results = perform(
        here,
        STAGE,
        work=lambda folder, _: _work(here, folder, count, k, only.value if only else None, seed),
        config={"count": count, "k": k, "only": only and only.value, "seed": seed, "knn": _knn_config(here)},
        inputs={**inputs, "data": here.manifest},
        prepare=lambda: [images_of(here, split) for split in ("train", "val")],
        force=force,
    )
    pairs = [[pair["true"], pair["predicted"], pair["count"], pair["share"]] for pair in results["pairs"][:5]]
    lines = [f"{results['queries']} queries, {results['neighbours_right']:.1f} % of their neighbours of their class"]
    lines += table([["true class", "taken for", "images", "share (%)"], *pairs]) if pairs else []
    page = here.folder("neighbours") / results["page"]
    show({**results, "page": str(page)}, [*lines, str(page)], as_json)


def need_images(run: Run, why: str) -> None:
    """Refuse a run that has features and no images.

    Raises:
        SslkitError: there is no prepared data; the message says why it is needed.
    """
    if not run.manifest.exists():
        raise SslkitError(
            f"{run.path} has features but no images ({run.manifest} is missing): {why}; name the run that holds the "
            "images, in the order of the features, by --data RUN"
        )


def images_of(run: Run, name: str) -> "Split":
    """The images that a split's features were made of.

    Raises:
        SslkitError: they are other ones, as far as their number and their labels tell.
    """
    import numpy as np

    from sslkit.data.shards import open_split

    split, labels = open_split(run.data, name), np.load(run.feature(name, "labels"))
    if len(split) != len(labels):
        raise SslkitError(
            f"{run.features / name} has {len(labels)} rows and {run.data} has {len(split)} {name} images: extract again"
        )
    if ((split.labels != labels) & (split.labels >= 0) & (labels >= 0)).any():
        raise SslkitError(f"{run.features / name} has other labels than the {name} images of {run.data}: extract again")
    return split


def _knn_config(run: Run) -> Result:
    """How k-NN classified: as the run's own k-NN did, else as it would by default."""
    record = run.record("knn")
    return record["config"] if record and _knn_stands(run) else {"k": "sweep", "temperature": 0.07}


def _knn_stands(run: Run) -> bool:
    record = run.record("knn")
    there = record is not None and record["status"] == "done" and run.predictions("knn").exists()
    return there and not run.stale("knn")


def _predictions(run: Run, train: "Features", val: "Features") -> "np.ndarray":
    """(R,) classes by k-NN of val's labelled rows: read, or computed where k-NN has not run on these features."""
    import numpy as np

    from sslkit.probes.classify.knn import SWEEP, knn

    if _knn_stands(run):
        with np.load(run.predictions("knn")) as arrays:
            if np.array_equal(arrays["rows"], val.rows):
                return arrays["predicted"]
    return knn(train, val, None if len(train) >= SWEEP[0] else [len(train)], progress=True).predicted


def _work(run: Run, folder: Path, count: int, k: int, only: Any, seed: int) -> Result:
    from sslkit.files import atomic, write_json
    from sslkit.plots.inspect.neighbours import neighbours_sheet, page
    from sslkit.probes.features.features import open_features
    from sslkit.probes.inspect.neighbours import choose_queries, most_confused, nearest
    from sslkit.probes.segmentation.confusion import confusion

    run.remember_data()
    train, val = (open_features([run.feature(s, "cls")], run.feature(s, "labels")) for s in ("train", "val"))
    images = {name: images_of(run, name) for name in ("train", "val")}
    names = class_names(images["val"].classes, train, val)
    predicted = _predictions(run, train, val)
    chosen = choose_queries(val.labels, predicted, count, only, seed)
    cosine, found = nearest(train, val, chosen, k)
    counts = confusion(val.labels, predicted, int(max(val.labels.max(), predicted.max())) + 1)
    pairs = [{**p, "true": names[p["true"]], "predicted": names[p["predicted"]]} for p in most_confused(counts, TOP)]
    right = float(100 * (train.labels[found] == val.labels[chosen][:, None]).mean())
    facts = {"queries": len(chosen), "k": k, "neighbours_right": right, "knn_top1": _share(val.labels == predicted)}

    rows = [
        {
            "row": int(val.rows[i]),
            "label": int(val.labels[i]),
            "predicted": int(predicted[i]),
            "neighbours": [
                {"row": int(train.rows[j]), "label": int(train.labels[j]), "cosine": float(c)}
                for j, c in zip(found[q], cosine[q], strict=True)
            ],
        }
        for q, i in enumerate(chosen.tolist())
    ]
    queries = [_query(row, images, names) for row in rows]
    with atomic(folder / SHEET) as handle:
        neighbours_sheet(queries).save(handle, "PNG")
    alt = (
        f"{len(queries)} val images, each with its {k} nearest train images; {right:.0f} % of these have its class "
        "(blue, solid, tick), the others have not (orange, dashed, cross)."
    )
    matrix = _draw_matrix(folder, counts, names)
    pictures = [{"file": SHEET, "title": "Nearest neighbours", "alt": alt}, matrix["picture"]]
    about = _about(run, facts)
    with atomic(folder / PAGE) as handle:
        title = f"Nearest neighbours: {run.path.resolve().name}"
        of = tab(run, "nearest neighbours")
        handle.write(page(title, about, queries, of, pairs=pairs, **matrix["facts"]).encode())
    results: Result = {**facts, "pairs": pairs, "page": PAGE, "pictures": pictures}
    write_json(run.results("neighbours"), {**results, "shown": rows})
    return results


def _share(hits: "np.ndarray") -> float:
    return float(100 * hits.mean())


def class_names(classes: list[str], *features: "Features") -> list[str]:
    """Names of all classes that labels know of; features may have more than the images' list."""
    most = max(int(each.labels.max()) for each in features) + 1
    return [*classes, *(f"class {number}" for number in range(len(classes), most))]


def _query(row: Result, images: "dict[str, Split]", names: list[str]) -> "Query":
    from sslkit.plots.inspect.neighbours import Neighbour, Query, square

    return Query(
        key=images["val"].keys[row["row"]],
        name=names[row["label"]],
        predicted=names[row["predicted"]],
        right=row["label"] == row["predicted"],
        picture=square(images["val"].image(row["row"])),
        neighbours=[
            Neighbour(
                names[near["label"]],
                square(images["train"].image(near["row"])),
                near["cosine"],
                near["label"] == row["label"],
            )
            for near in row["neighbours"]
        ],
    )


def _draw_matrix(folder: Path, counts: "np.ndarray", names: list[str]) -> Result:
    """``confusion.png``, and the same as an SVG for the page."""
    from markupsafe import Markup

    from sslkit.plots.figure import as_svg, save_png
    from sslkit.plots.inspect.neighbours import alternative, classes_shown, confusion_figure
    from sslkit.probes.inspect.neighbours import most_confused

    mistakes = most_confused(counts, counts.size)
    classes = classes_shown(counts, mistakes)
    title = "Share of each true class (rows) that is taken for each class (columns), in percent."
    if len(classes) < len(counts):
        title += f" The {len(classes)} classes of the most frequent mistakes, of {len(counts)}."
    alt = alternative(counts, mistakes, names)
    figure = confusion_figure(counts, classes, names)
    save_png(figure, folder / MATRIX, alt)
    svg = Markup(as_svg(figure, alt, "confusion"))
    picture = {"file": MATRIX, "title": "Confusion matrix of k-NN", "alt": alt}
    return {"picture": picture, "facts": {"matrix": svg, "matrix_title": title}}


def _about(run: Run, facts: Result) -> list[str]:
    knn = _knn_config(run)
    return [
        f"Each val image stands beside its {facts['k']} nearest labelled train images, by the cosine of frozen "
        f"features (the number). {facts['neighbours_right']:.1f} % of these neighbours have its class. Blue, solid "
        "frame and tick: the same class. Orange, dashed frame and cross: another.",
        f"Classes are those of the run's k-NN (temperature {knn['temperature']:g}), which is right for "
        f"{facts['knn_top1']:.1f} % of val.",
    ]
