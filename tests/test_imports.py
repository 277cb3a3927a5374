"""The import rules: down only, no circles, no stage that imports a stage, no plug-in that imports its neighbour."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# A room may import the rooms below it and itself. The ground imports ground only.
FLOORS = (
    ("stages",),
    ("sslkit.plots", "sslkit.export"),
    ("sslkit.training", "sslkit.probes"),
    ("sslkit.methods",),
    ("sslkit.objectives",),
    ("sslkit.masks", "sslkit.heads", "sslkit.weights"),
    ("sslkit.encoder", "sslkit.data"),
    ("sslkit.losses", "sslkit.distributed", "sslkit.statistics", "sslkit.optimizers"),
    ("sslkit.recipe",),
    ("sslkit",),
)
PLUG_INS = (
    "sslkit.objectives",
    "sslkit.masks",
    "sslkit.methods",
    "sslkit.heads",
    "sslkit.optimizers",
    "sslkit.data.sources",
    "sslkit.data.augmentations",
    "sslkit.weights.layouts",
    "sslkit.export.formats",
    "sslkit.loggers",
    "sslkit.plots.panels",
    "sslkit.probes.segmentation.annotations.encodings",
    "sslkit.probes.segmentation.annotations.layouts",
)
HEAVY = {"torch", "torchvision", "numpy", "timm", "pydantic", "matplotlib", "webdataset", "faiss", "sklearn", "PIL"}
FILES = sorted([*(ROOT / "sslkit").rglob("*.py"), *(ROOT / "stages").rglob("*.py")])


def module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module(path) for path in FILES}


def imports(tree: ast.AST) -> Iterator[str]:
    """Full names of imported modules; `from package import module` gives the module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where a name comes from"
            assert node.module is not None
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else node.module


def at_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that run when the module is imported: nothing in a function or under `if TYPE_CHECKING:`."""
    for node in body:
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            continue
        if isinstance(node, ast.ClassDef):
            yield from at_import(node.body)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


# Every import counts, also one within a function or for type checking only: an exception list by another name.
GRAPH = {module(path): sorted(set(imports(ast.parse(path.read_text()))) & MODULES) for path in FILES}


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def floor(name: str) -> int:
    rooms = [(len(room), -level) for level, rooms in enumerate(FLOORS) for room in rooms if within(name, room)]
    return max(rooms)[1]


@pytest.mark.parametrize("me", sorted(MODULES))
def test_imports_flow_down(me: str) -> None:
    for name in GRAPH[me]:
        assert floor(name) <= floor(me), f"{me} imports {name}, which is above it"


def test_no_circle() -> None:
    try:
        TopologicalSorter({me: set(names) - {me} for me, names in GRAPH.items()}).prepare()
    except CycleError as error:
        pytest.fail(f"these files import each other: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("me", sorted(m for m in MODULES if within(m, "sslkit.probes")))
def test_what_is_measured_does_not_depend_on_how_it_is_drawn(me: str) -> None:
    drawn = [name for name in GRAPH[me] if within(name, "sslkit.plots")]
    assert not drawn, f"{me} imports {drawn[0]}: plots draw what probes measure, never the other way round"


@pytest.mark.parametrize("me", sorted(m for m in MODULES if m.rpartition(".")[0] in PLUG_INS))
def test_plug_ins_import_only_their_base(me: str) -> None:
    package = me.rpartition(".")[0]
    for name in GRAPH[me]:
        if name.rpartition(".")[0] == package:
            assert name == f"{package}.base", f"{me} imports {name}: only the base is shared"


def is_stage(name: str) -> bool:
    """A subcommand's own file: flat in stages/, and not the app."""
    return name.startswith("stages.") and name.count(".") == 1 and (ROOT / "stages" / f"{name[7:]}.py").is_file()


@pytest.mark.parametrize("me", sorted(m for m in MODULES if within(m, "stages")))
def test_no_stage_is_imported(me: str) -> None:
    """The command line and the run directory find stages by what they declare, so none is named anywhere."""
    stages = [name for name in GRAPH[me] if is_stage(name)]
    assert not stages, f"{me} imports the stage {stages[0]}"


@pytest.mark.parametrize("path", [p for p in FILES if within(module(p), "stages")], ids=lambda p: module(p))
def test_stages_import_nothing_heavy_at_the_top(path: Path) -> None:
    for statement in at_import(ast.parse(path.read_text()).body):
        for name in imports(statement):
            assert name.split(".")[0] not in HEAVY, f"{module(path)} imports {name} at the top: --help gets slow"
