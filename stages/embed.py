"""`sslkit embed RUN`: a map of the features, on which every point shows its image."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from stages.contract.layout import Result, Run, transferred
from stages.contract.output import say, show, tab, table
from stages.contract.perform import perform
from stages.contract.stage import Stage
from stages.neighbours import class_names, images_of
from stages.options.basic import DataOption, ForceOption, JsonOption, RunArgument, SeedOption

if TYPE_CHECKING:
    from sslkit.probes.inspect.embedding import Map

MOST = 10_000  # points: trustworthiness takes the square of their number
PAGE, POSITIONS = "index.html", "positions.npz"
METHOD_HELP = "pca, tsne or umap; repeatable, or with commas. Default: pca,tsne."


class Part(str, Enum):
    """Which images."""

    val = "val"
    train = "train"


STAGE = Stage(name="embed", help="Draw a map of the features: PCA, t-SNE, UMAP.", order=130, folder="embed")


@STAGE.command
def embed(
    run: RunArgument,
    split: Annotated[Part, typer.Option("--split", help="val or train.")] = Part.val,
    count: Annotated[int, typer.Option("--count", min=5, max=MOST, help="Images, drawn by the seed.")] = 2000,
    method: Annotated[
        Optional[list[str]],  # noqa: UP045  typer reads the annotation at run time on Python 3.10
        typer.Option("--method", metavar="NAME", help=METHOD_HELP, show_default=False),
    ] = None,
    perplexity: Annotated[float, typer.Option("--perplexity", min=1.0, help="Of t-SNE: neighbours kept near.")] = 30.0,
    data: DataOption = None,
    seed: SeedOption = 0,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Map frozen features to the plane: a page with a thumbnail at every point, and a picture of each map."""
    here = transferred(run, data)
    inputs = _inputs(here, split.value)

    from sslkit.probes.inspect.embedding import METHODS, chosen_methods

    methods = chosen_methods(",".join(method or ["pca,tsne"]))
    config: Result = {"split": split.value, "count": count, "methods": methods, "seed": seed}
    if "tsne" in methods:
        config["perplexity"] = perplexity
    job = Job(here, config)
    results = perform(
        here,
        STAGE,
        prepare=job.check,
        work=lambda folder, _: job.work(folder),
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
    files = {f"{split}/{name}": run.need(run.feature(split, name)) for name in ("cls", "labels")}
    inputs = {"features": run.features_info} if run.features_info.exists() else files
    return {**inputs, "data": run.manifest} if run.manifest.exists() else inputs


@dataclass
class Job:
    """One call. ``check`` comes before ``work``."""

    run: Run
    config: Result

    def check(self) -> None:
        """Read the features, and refuse what no map can be made of.

        Raises:
            SslkitError: too few, NaN or infinity, all alike, a perplexity that so few points cannot have, or images
                that are not the features'.
        """
        from sslkit.probes.features.features import open_features
        from sslkit.probes.inspect.embedding import check_perplexity, sampled, unit_rows

        run, split = self.run, self.config["split"]
        self.features = open_features([run.feature(split, "cls")], run.feature(split, "labels"), unlabelled=True)
        self.images = images_of(run, split) if run.manifest.exists() else None
        positions = sampled(self.features, self.config["count"], self.config["seed"])
        self.labels, self.rows = self.features.labels[positions], self.features.rows[positions]
        self.unit = unit_rows(self.features, positions)
        if "perplexity" in self.config:
            check_perplexity(self.config["perplexity"], len(positions))

    def work(self, folder: Path) -> Result:
        """Map, draw, write."""
        import numpy as np

        from sslkit.files import atomic, write_json
        from sslkit.plots.inspect.embedding import groups
        from sslkit.probes.inspect.embedding import embed as make_map

        self.run.remember_data()
        if self.images is None:
            say(f"{self.run.manifest} is missing: a map without images; --data RUN names the run that holds them")
        seed, perplexity = self.config["seed"], self.config.get("perplexity", 0.0)
        maps = [make_map(self.unit, method, seed, perplexity) for method in self.config["methods"]]
        arrays: dict[str, Any] = {drawn.method: drawn.positions for drawn in maps}
        with atomic(folder / POSITIONS) as handle:
            np.savez(handle, rows=self.rows, labels=self.labels, **arrays)
        classes = groups(self.labels, class_names(self.images.classes if self.images else [], self.features))
        pictures = [_draw(folder, drawn, classes) for drawn in maps]
        self._write_page(folder, maps, classes)
        results: Result = {
            "images": len(self.rows),
            "split": self.config["split"],
            "classes": len(classes),
            "maps": {drawn.method: {"trustworthiness": drawn.trustworthiness, **drawn.facts} for drawn in maps},
            "page": PAGE,
            "pictures": pictures,
        }
        write_json(self.run.results("embed"), results)
        return results

    def _write_page(self, folder: Path, maps: "list[Map]", classes: list) -> None:
        """The page with an image at every point."""
        from sslkit.files import atomic
        from sslkit.plots.inspect.embedding import page, sprite
        from sslkit.plots.inspect.neighbours import square

        images, rows = self.images, self.rows.tolist()
        names = [images.keys[row] if images else f"row {row}" for row in rows]
        thumbnails = sprite(square(images.image(row), 48) for row in rows) if images else None
        about = [
            f"{len(rows)} {self.config['split']} images by their frozen features, L2-normalised, so that distances are "
            "those of cosines."
        ]
        title = f"Map of features: {self.run.path.resolve().name}"
        with atomic(folder / PAGE) as handle:
            handle.write(
                page(title, about, maps, classes, names, thumbnails, tab(self.run, "map of features")).encode()
            )


def _draw(folder: Path, drawn: "Map", classes: list) -> Result:
    """The picture of one map."""
    from sslkit.plots.figure import save_png
    from sslkit.plots.inspect.embedding import alternative, map_figure

    file, alt = f"{drawn.method}.png", alternative(drawn, classes)
    save_png(map_figure(drawn, classes), folder / file, alt)
    return {"file": file, "title": f"{drawn.title} of the features", "alt": alt}
