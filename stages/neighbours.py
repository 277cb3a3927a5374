"""``sslkit neighbours``: val images next to their nearest train images, and the classes that are confused."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sslkit.errors import SslkitError, number_of
from stages.contract.layout import Result, Run, transferred
from stages.contract.output import show, table
from stages.contract.perform import perform
from stages.contract.stage import Stage
from stages.contract.stale import changed_inputs
from stages.inputs.features.images import class_names, images_of
from stages.inputs.features.splits import SPLITS, feature_files, open_splits, read_predictions
from stages.options.basic import DataOptions, ResultOptions, SeedOption

if TYPE_CHECKING:
    from numpy import ndarray

    from sslkit.data.shards import Split
    from sslkit.plots.inspect.neighbours import QueryImage
    from sslkit.probes.features.features import Features

TOP = 10  # pairs of classes in the table
DEFAULT_KNN: Result = {"k": "sweep", "temperature": 0.07}  # without the run's own k-NN
PAGE, SHEET, MATRIX, RESULTS = "index.html", "neighbours.png", "confusion.png", "results.json"
STAGE = Stage(name="neighbours", help="Draw images next to their nearest neighbours.", order=120, folder="neighbours")


class QueryKind(str, Enum):
    """Which val images are drawn: those that k-NN gets right, those it gets wrong, or any."""

    right = "right"
    wrong = "wrong"
    any = "any"


@STAGE.command
@dataclass(kw_only=True)
class Neighbours(DataOptions, ResultOptions):
    """Draw val images next to their nearest train images by cosine of frozen features, and the confused classes."""

    count: Annotated[int, typer.Option("--count", min=1, help="How many val images, spread over the classes.")] = 12
    k: Annotated[int, typer.Option("--k", min=1, help="Neighbours of each.")] = 8
    only: Annotated[
        QueryKind | None,
        typer.Option("--only", help="Images that k-NN gets right, wrong, or any; default: half wrong, half right."),
    ] = None
    seed: SeedOption = 0

    def execute(self) -> None:
        """Draw the neighbours, and print the most confused classes."""
        run = transferred(self.run, self.data)
        inputs = feature_files(run, ["cls"])
        if not run.manifest.exists():
            raise SslkitError(
                f"{run.path} has features but no images to show ({run.manifest} is missing): name the run that holds "
                "the images, in the order of the features, with --data RUN"
            )
        only = self.only.value if self.only else None
        config: Result = {
            "count": self.count,
            "k": self.k,
            "only": only,
            "seed": self.seed,
            "knn": _knn_config(run) or DEFAULT_KNN,
        }
        results = perform(
            run,
            STAGE,
            prepare=lambda: {split: images_of(run, split) for split in SPLITS},
            work=lambda folder, images: _work(run, folder, images, config),
            config=config,
            inputs={**inputs, "data": run.manifest},
            force=self.force,
        )
        pairs = [[pair["true"], pair["predicted"], pair["count"], pair["share"]] for pair in results["pairs"][:5]]
        lines = [
            f"{number_of(results['queries'], 'query')}{_which(results)}; {results['neighbours_right']:.1f} % of their "
            "neighbours have the query's class"
        ]
        lines += table([["true class", "taken for", "images", "share (%)"], *pairs]) if pairs else []
        page = run.folder("neighbours") / results["page"]
        show({**results, "page": str(page)}, [*lines, str(page)], self.json)


def _knn_config(run: Run) -> Result | None:
    """The settings of the run's own k-NN, if it was done on these very features."""
    record = run.record("knn")
    if (
        record is None
        or record["status"] != "done"
        or not run.predictions("knn").exists()
        or changed_inputs(run, "knn")
    ):
        return None
    return record["config"]


def _predictions(run: Run, train: "Features", val: "Features") -> "ndarray":
    """(R,) classes by k-NN of val's labelled rows: read, or computed if k-NN was not done on these features."""
    import numpy as np

    from sslkit.probes.classify.knn import SWEEP, knn

    if _knn_config(run) is not None:
        found = read_predictions(run.predictions("knn"))
        if np.array_equal(found["rows"], val.rows):
            return found["predicted"]
    return knn(train, val, None if len(train) >= SWEEP[0] else [len(train)], progress=True).predicted


def _work(run: Run, folder: Path, images: "dict[str, Split]", config: Result) -> Result:
    from sslkit.files import atomic, printable, write_json
    from sslkit.plots.inspect.neighbours import neighbours_sheet, page
    from sslkit.probes.inspect.neighbours import choose_queries, most_confused, nearest
    from sslkit.probes.segmentation.confusion import confusion

    run.remember_data()
    train, val = open_splits(run)
    names = class_names(images["val"].classes, train, val)
    predicted = _predictions(run, train, val)
    chosen = choose_queries(val.labels, predicted, config["count"], config["only"], config["seed"])
    cosine, found = nearest(train, val, chosen, config["k"])
    rows = _rows((train, val), chosen, predicted, cosine, found)
    queries = [_query(row, images, names) for row in rows]
    counts = confusion(val.labels, predicted, int(max(val.labels.max(), predicted.max())) + 1)
    pairs = [{**p, "true": names[p["true"]], "predicted": names[p["predicted"]]} for p in most_confused(counts, TOP)]
    facts = {
        "queries": len(chosen),
        "queries_wrong": int((val.labels != predicted)[chosen].sum()),
        "k": config["k"],
        "neighbours_right": float(100 * (train.labels[found] == val.labels[chosen][:, None]).mean()),
        "knn_top1": float(100 * (val.labels == predicted).mean()),
    }
    with atomic(folder / SHEET) as handle:
        neighbours_sheet(queries).save(handle, "PNG")
    matrix = _draw_matrix(folder, counts, names)
    title, tab = f"Nearest neighbours: {run.path.resolve().name}", f"{run.title}: nearest neighbours · sslkit"
    about = _about(facts, config["knn"]["temperature"])
    with atomic(folder / PAGE) as handle:
        handle.write(printable(page(title, about, queries, tab, pairs=pairs, **matrix["facts"])).encode())
    pictures = [{"file": SHEET, "title": "Nearest neighbours", "alt": _alternative(facts)}, matrix["picture"]]
    results: Result = {**facts, "pairs": pairs, "page": PAGE, "pictures": pictures}
    write_json(folder / RESULTS, {**results, "shown": rows})
    return results


def _rows(
    splits: "tuple[Features, Features]", chosen: "ndarray", predicted: "ndarray", cosine: "ndarray", found: "ndarray"
) -> list[Result]:
    """The rows and classes of the chosen val images, each with its nearest train images."""
    train, val = splits
    return [
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


def _query(row: Result, images: "dict[str, Split]", names: list[str]) -> "QueryImage":
    from sslkit.plots.inspect.neighbours import TILE, NeighbourImage, QueryImage
    from sslkit.plots.pictures import square

    def neighbour(near: Result) -> NeighbourImage:
        picture = square(images["train"].image(near["row"]), TILE)
        return NeighbourImage(names[near["label"]], picture, near["cosine"], near["label"] == row["label"])

    return QueryImage(
        key=images["val"].source_name(row["row"]),
        name=names[row["label"]],
        predicted=names[row["predicted"]],
        right=row["label"] == row["predicted"],
        picture=square(images["val"].image(row["row"]), TILE),
        neighbours=[neighbour(near) for near in row["neighbours"]],
    )


def _draw_matrix(folder: Path, counts: "ndarray", names: list[str]) -> dict[str, Any]:
    """Write ``confusion.png``; its entry among the stage's pictures, and the same as an SVG for the page."""
    from markupsafe import Markup

    from sslkit.plots.figure import as_svg, save_png
    from sslkit.plots.inspect.neighbours import alternative, classes_shown, confusion_figure
    from sslkit.probes.inspect.neighbours import most_confused

    mistakes = most_confused(counts, counts.size)
    classes = classes_shown(counts, mistakes)
    title = "Share of each true class (rows) that is taken for each class (columns), in percent."
    if len(classes) < len(counts):
        title += f" The {len(classes)} classes with the most frequent mistakes, of {len(counts)}."
    alt = alternative(counts, mistakes, names)
    figure = confusion_figure(counts, classes, names)
    save_png(figure, folder / MATRIX, alt)
    svg = Markup(as_svg(figure, alt, "confusion"))
    picture = {"file": MATRIX, "title": "Confusion matrix of k-NN", "alt": alt}
    return {"picture": picture, "facts": {"matrix": svg, "matrix_title": title}}


def _which(facts: Result) -> str:
    """Which queries were chosen: what is measured on them is not measured on val; "" for earlier versions' results."""
    if "queries_wrong" not in facts:
        return ""
    wrong, count = facts["queries_wrong"], facts["queries"]
    if count == 1:
        return f", which k-NN gets {'wrong' if wrong else 'right'}"
    some = {0: "all of which k-NN gets right", count: "all of which k-NN gets wrong"}
    return f", {some.get(wrong, f'{wrong} of which k-NN gets wrong')}"


def _about(facts: Result, temperature: float) -> Sequence[str]:
    return [
        f"{number_of(facts['queries'], 'image of val')}{_which(facts)}, each next to its {facts['k']} nearest labelled "
        f"train images, by the cosine of frozen features (the number). {facts['neighbours_right']:.1f} % of these "
        "neighbours have its class. Blue solid frame and tick: the same class. Orange dashed frame and cross: another "
        "class.",
        f"Predicted classes are those of the run's k-NN (temperature {temperature:g}), which is right on "
        f"{facts['knn_top1']:.1f} % of val.",
    ]


def _alternative(facts: Result) -> str:
    return (
        f"{number_of(facts['queries'], 'image of val')}{_which(facts)}, each with its {facts['k']} nearest train "
        f"images; {facts['neighbours_right']:.0f} % of these have its class (blue, solid, tick), the others do not "
        "(orange, dashed, cross)."
    )
