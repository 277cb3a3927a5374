"""``sslkit embed``: maps of the features on which every point shows its image."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sslkit.errors import number_of
from stages.contract.layout import Result, Run, transferred
from stages.contract.output import say, show, table
from stages.contract.perform import perform
from stages.contract.stage import Stage
from stages.inputs.features.images import class_names, images_of
from stages.inputs.features.splits import extracted
from stages.options.basic import DataOptions, ResultOptions, SeedOption

if TYPE_CHECKING:
    import numpy as np

    from sslkit.data.shards import Split
    from sslkit.plots.inspect.embedding import ClassPoints
    from sslkit.probes.inspect.embedding import FeatureMap

MOST = 10_000  # points: trustworthiness takes time and memory in the square of their number
PAGE, POSITIONS, RESULTS = "index.html", "positions.npz", "results.json"
METHOD_HELP = "pca, tsne or umap; repeatable, or separated by commas. Default: pca,tsne."
STAGE = Stage(name="embed", help="Draw a map of the features: PCA, t-SNE, UMAP.", order=130, folder="embed")


class MappedSplit(str, Enum):
    """Which images are mapped."""

    val = "val"
    train = "train"


@STAGE.command
@dataclass(kw_only=True)
class Embed(DataOptions, ResultOptions):
    """Map frozen features to the plane: a page with a thumbnail at every point, and a picture of each map."""

    split: Annotated[MappedSplit, typer.Option("--split", help="val or train.")] = MappedSplit.val
    count: Annotated[int, typer.Option("--count", min=5, max=MOST, help="Images, drawn with --seed.")] = 2000
    method: Annotated[list[str] | None, typer.Option("--method", metavar="NAME", help=METHOD_HELP)] = None
    perplexity: Annotated[
        float, typer.Option("--perplexity", min=1.0, help="Of t-SNE: about how many neighbours stay near a point.")
    ] = 30.0
    seed: SeedOption = 0

    def execute(self) -> None:
        """Map the features, and print the trustworthiness of each map."""
        run = transferred(self.run, self.data)
        inputs = _inputs(run, self.split.value)

        from sslkit.probes.inspect.embedding import METHODS, chosen_methods

        methods = chosen_methods(",".join(self.method or ["pca,tsne"]))
        config: Result = {"split": self.split.value, "count": self.count, "methods": methods, "seed": self.seed}
        if "tsne" in methods:
            config["perplexity"] = self.perplexity
        results = perform(
            run,
            STAGE,
            prepare=lambda: _open(run, config),
            work=lambda folder, rows: _map(run, folder, rows, config),
            config=config,
            inputs=inputs,
            force=self.force,
        )
        page = run.folder("embed") / results["page"]
        rows = [[METHODS[name], f"{facts['trustworthiness']:.3f}"] for name, facts in results["maps"].items()]
        lines = [f"{number_of(results['images'], 'image')}, {number_of(results['classes'], 'class')}: {page}"]
        show({**results, "page": str(page)}, [*lines, *table([["map", "trustworthiness"], *rows])], self.json)


def _inputs(run: Run, split: str) -> dict[str, Path]:
    """The features, and the images if there are any; features of another program may have none."""
    files = {f"{split}/{name}": run.need(run.feature(split, name)) for name in ("cls", "labels")}
    inputs = {"features": run.need(run.features_info)} if extracted(run) else files
    return {**inputs, "data": run.manifest} if run.manifest.exists() else inputs


@dataclass(frozen=True)
class RowsToMap:
    """The rows of a split that are mapped."""

    unit: "np.ndarray"  # (n, D) L2-normalised features
    rows: "np.ndarray"  # (n,), in the split
    labels: "np.ndarray"  # (n,) classes, -1 = unlabelled
    classes: list[str]
    images: "Split | None"  # of the split, if there are any


def _open(run: Run, config: Result) -> RowsToMap:
    """Read the features.

    Raises:
        SslkitError: features that cannot be mapped (too few, all alike, NaN or infinity), or other images.
        UsageError: a perplexity too large for the number of points.
    """
    from sslkit.probes.features.features import open_features
    from sslkit.probes.inspect.embedding import check_perplexity, sampled, unit_rows

    split = config["split"]
    features = open_features([run.feature(split, "cls")], run.feature(split, "labels"), unlabelled=True)
    images = images_of(run, split) if run.manifest.exists() else None
    positions = sampled(features, config["count"], config["seed"])
    unit = unit_rows(features, positions)
    if "perplexity" in config:
        check_perplexity(config["perplexity"], len(positions))
    classes = class_names(images.classes if images else [], features)
    return RowsToMap(unit, features.rows[positions], features.labels[positions], classes, images)


def _map(run: Run, folder: Path, data: RowsToMap, config: Result) -> Result:
    import numpy as np

    from sslkit.files import atomic, write_json
    from sslkit.plots.inspect.embedding import points_by_class
    from sslkit.probes.inspect.embedding import embed

    run.remember_data()
    if data.images is None:
        say(f"{run.manifest} is missing, so the map has no images; name the run that holds them with --data RUN")
    seed, perplexity = config["seed"], config.get("perplexity", 0.0)
    maps = [embed(data.unit, method, seed, perplexity) for method in config["methods"]]
    arrays: dict[str, Any] = {drawn.method: drawn.positions for drawn in maps}
    with atomic(folder / POSITIONS) as handle:
        np.savez(handle, rows=data.rows, labels=data.labels, **arrays)
    classes = points_by_class(data.labels, data.classes)
    pictures = [_draw(folder, drawn, classes) for drawn in maps]
    _write_page(run, folder, maps, classes, data, config)
    results: Result = {
        "images": len(data.rows),
        "split": config["split"],
        "classes": len(classes),
        "maps": {drawn.method: {"trustworthiness": drawn.trustworthiness, **drawn.facts} for drawn in maps},
        "page": PAGE,
        "pictures": pictures,
    }
    write_json(folder / RESULTS, results)
    return results


def _draw(folder: Path, drawn: "FeatureMap", classes: "list[ClassPoints]") -> Result:
    """Write the picture of one map; its entry among the stage's pictures."""
    from sslkit.plots.figure import save_png
    from sslkit.plots.inspect.embedding import alternative, map_figure

    file, alt = f"{drawn.method}.png", alternative(drawn, classes)
    save_png(map_figure(drawn, classes), folder / file, alt)
    return {"file": file, "title": f"{drawn.title} of the features", "alt": alt}


def _write_page(
    run: Run, folder: Path, maps: "list[FeatureMap]", classes: "list[ClassPoints]", data: RowsToMap, config: Result
) -> None:
    from sslkit.files import atomic, printable
    from sslkit.plots.inspect.embedding import page, thumbnail_sheet
    from sslkit.plots.pictures import square

    images, rows = data.images, data.rows.tolist()
    names = [images.source_name(row) if images else f"row {row}" for row in rows]
    thumbnails = thumbnail_sheet(square(images.image(row), 48) for row in rows) if images else None
    about = [f"{len(rows)} {config['split']} images by their frozen features, L2-normalised as for cosine similarity."]
    title = f"Map of features: {run.path.resolve().name}"
    with atomic(folder / PAGE) as handle:
        text = page(title, about, maps, classes, names, thumbnails, f"{run.title}: map of features · sslkit")
        handle.write(printable(text).encode())
