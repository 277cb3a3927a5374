"""The import rule of DESIGN section 2, held by reading the imports."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Higher may import lower or its own height. What is not named is ground: everyone may import it.
HEIGHTS = {
    "stages": 5,
    "sslkit.training": 4,
    "sslkit.probes": 4,
    "sslkit.plots": 4,
    "sslkit.export": 4,
    "sslkit.methods": 3,
    "sslkit.objectives": 2,
    "sslkit.masks": 2,
    "sslkit.heads.heads": 2,
    "sslkit.encoder.encoder": 2,
    "sslkit.weights.read": 2,
    "sslkit.data": 2,
    "sslkit": 0,
}
PLUG_INS = ("sslkit.objectives", "sslkit.masks", "sslkit.methods", "sslkit.data.sources")
# A recipe's sections are validated by the classes that own them; it asks for their base when it is read.
ALLOWED_UP = {("sslkit.recipe.schema", f"sslkit.{folder}.base") for folder in ("masks", "objectives", "methods")}
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


def height(name: str) -> int:
    owner = max((key for key in HEIGHTS if name == key or name.startswith(f"{key}.")), key=len)
    return HEIGHTS[owner]


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=named)
def test_imports_flow_down(path: Path) -> None:
    me = module(path)
    for name in imports(ast.parse(path.read_text())):
        if name.split(".")[0] not in ("sslkit", "stages") or (me, name) in ALLOWED_UP:
            continue
        assert height(name) <= height(me), f"{me} imports {name}, which stands above it"


@pytest.mark.parametrize("path", [p for p in FILES if module(p).startswith("sslkit.probes")], ids=named)
def test_what_is_measured_does_not_depend_on_how_it_is_drawn(path: Path) -> None:
    strange = [name for name in imports(ast.parse(path.read_text())) if name.startswith("sslkit.plots")]
    assert not strange, f"{module(path)} imports {strange[0]}: pictures are made of probes, not probes of pictures"


@pytest.mark.parametrize("path", [p for p in FILES if module(p).rpartition(".")[0] in PLUG_INS], ids=named)
def test_plug_ins_import_only_their_base(path: Path) -> None:
    package = module(path).rpartition(".")[0]
    for name in imports(ast.parse(path.read_text())):
        if name.startswith(f"{package}."):
            assert name == f"{package}.base", f"{module(path)} imports {name}: only the base is shared"


@pytest.mark.parametrize("path", [p for p in FILES if module(p).startswith("stages")], ids=named)
def test_stages_import_nothing_heavy_at_the_top(path: Path) -> None:
    for statement in at_import(ast.parse(path.read_text()).body):
        for name in imports(statement):
            assert name.split(".")[0] not in HEAVY, f"{named(path)} imports {name} at the top: --help gets slow"
