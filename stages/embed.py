"""`sslkit embed RUN`: a map of the features, on which every point shows its image."""

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stages.neighbours import images_of
from stages.options import DataOption, ForceOption, JsonOption, RunArgument, SeedOption
from stages.output import say, show, table
from stages.run import Result, Run, transferred

if TYPE_CHECKING:
    from sslkit.data.shards import Split
    from sslkit.probes.embedding import Map
    from sslkit.probes.features import Features

MOST = 10_000  # points: trustworthiness takes the square of their number
PAGE, POSITIONS = "index.html", "positions.npz"


class Part(str, Enum):
    """Which images."""

    val = "val"
    train = "train"


def embed(
    run: RunArgument,
    split: Annotated[Part, typer.Option("--split", help="val or train.")] = Part.val,
    count: Annotated[int, typer.Option("--count", min=5, max=MOST, help="Images, drawn by the seed.")] = 2000,
    method: Annotated[str, typer.Option("--method", help="pca, tsne, umap: one or more, with commas.")] = "pca,tsne",
    perplexity: Annotated[float, typer.Option("--perplexity", min=1.0, help="Of t-SNE: neighbours kept near.")] = 30.0,
    data: DataOption = None,
    seed: SeedOption = 0,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Map frozen features to the plane: a page with a thumbnail at every point, and a picture of each map."""
    here = transferred(run, data)
    inputs = _inputs(here, split.value)

    from sslkit.probes.embedding import METHODS, chosen_methods

    methods = chosen_methods(method)
    config = {"split": split.value, "count": count, "methods": methods, "seed": seed}
    if "tsne" in methods:
        config["perplexity"] = perplexity
    results = here.perform(
        "embed",
        lambda folder: _work(here, folder, split.value, count, methods, perplexity, seed),
        config=config,
        inputs=inputs,
        force=force,
    )
    page = here.folder("embed") / results["page"]
    rows = [[METHODS[name], f"{facts['trustworthiness']:.3f}"] for name, facts in results["maps"].items()]
    lines = [f"{results['images']} images, {results['classes']} classes: {page}"]
    show({**results, "page": str(page)}, [*lines, *table([["map", "trustworthiness"], *rows])], as_json)


def _inputs(run: Run, split: str) -> dict[str, Path]:
    """The features, and the images where there are any; features of another program need none."""
    files = {f"{split}/{name}": run.need(run.feature(split, name), "extract") for name in ("cls", "labels")}
    inputs = {"features": run.features_info} if run.features_info.exists() else files
    return {**inputs, "data": run.manifest} if run.manifest.exists() else inputs


def _work(run: Run, folder: Path, split: str, count: int, methods: list[str], perplexity: float, seed: int) -> Result:
    import numpy as np

    from sslkit.files import atomic, write_json
    from sslkit.plots.embedding import groups, page, sprite
    from sslkit.plots.neighbours import square
    from sslkit.probes.embedding import embed as make_map
    from sslkit.probes.embedding import sampled, unit_rows
    from sslkit.probes.features import open_features

    run.remember_data()
    features = open_features([run.feature(split, "cls")], run.feature(split, "labels"), unlabelled=True)
    images = images_of(run, split) if run.manifest.exists() else None
    if images is None:
        say(f"{run.manifest} is missing: a map without images; --data RUN names the run that holds them")
    positions = sampled(features, count, seed)
    labels, rows = features.labels[positions], features.rows[positions]
    unit = unit_rows(features, positions)
    maps = [make_map(unit, method, seed, perplexity) for method in methods]
    arrays: dict[str, Any] = {drawn.method: drawn.positions for drawn in maps}
    with atomic(folder / POSITIONS) as handle:
        np.savez(handle, rows=rows, labels=labels, **arrays)

    classes = groups(labels, _class_names(features, images))
    pictures = [_draw(folder, drawn, classes) for drawn in maps]
    names = [images.keys[row] if images else f"row {row}" for row in rows.tolist()]
    thumbnails = sprite(square(images.image(row), 48) for row in rows.tolist()) if images else None
    about = [
        f"{len(rows)} {split} images by their frozen features, L2-normalised, so that distances are those of cosines."
    ]
    with atomic(folder / PAGE) as handle:
        title = f"Map of features: {run.path.resolve().name}"
        handle.write(page(title, about, maps, classes, names, thumbnails).encode())
    results: Result = {
        "images": len(rows),
        "split": split,
        "classes": len(classes),
        "maps": {drawn.method: {"trustworthiness": drawn.trustworthiness, **drawn.facts} for drawn in maps},
        "page": PAGE,
        "pictures": pictures,
    }
    write_json(run.results("embed"), results)
    return results


def _class_names(features: "Features", images: "Split | None") -> list[str]:
    known = images.classes if images else []
    return [*known, *(f"class {number}" for number in range(len(known), int(features.labels.max()) + 1))]


def _draw(folder: Path, drawn: "Map", classes: list) -> Result:
    """The picture of one map."""
    from sslkit.plots.embedding import alternative, map_figure
    from sslkit.plots.figure import save_png

    file, alt = f"{drawn.method}.png", alternative(drawn, classes)
    save_png(map_figure(drawn, classes), folder / file, alt)
    return {"file": file, "title": f"{drawn.title} of the features", "alt": alt}
