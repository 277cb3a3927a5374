"""Declarations: every subcommand has one, and a dropped file is a subcommand everywhere."""

import json
import sys

import pytest

from sslkit.errors import SslkitError
from stages.contract import stage as contract
from stages.contract.layout import Run
from stages.contract.stage import Command, lines, stages

DROPPED = '''
"""``sslkit brightness``: the share of labelled val rows, as a stage of its own."""

from dataclasses import dataclass

from stages.contract.output import show
from stages.contract.layout import transferred
from stages.contract.perform import nothing, perform
from stages.contract.stage import Stage
from stages.options.basic import ResultOptions

STAGE = Stage(
    name="brightness", help="Measure brightness.", order=45, folder="brightness", title="bright", evaluates=True
)


@STAGE.command
@dataclass(kw_only=True)
class Brightness(ResultOptions):
    """Measure brightness."""

    scale: float = 1.0

    def execute(self):
        run = transferred(self.run, None)
        results = perform(
            run,
            STAGE,
            prepare=nothing,
            work=lambda folder, _: {"top1": 7.5 * self.scale},
            config={"scale": self.scale},
            inputs={},
            force=self.force,
        )
        show(results, [f"bright {results['top1']}"], self.json)
'''


@pytest.fixture
def dropped(tmp_path, monkeypatch):
    """A stage file that lies in stages/ for the length of a test."""
    folder = tmp_path / "dropped"
    folder.mkdir()
    (folder / "brightness.py").write_text(DROPPED)
    import stages as package

    monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    contract.stages.cache_clear()
    yield folder
    contract.stages.cache_clear()
    sys.modules.pop("stages.brightness", None)


@pytest.mark.parametrize("name", sorted(stages()))
def test_a_stage_says_what_it_is(name):
    stage = stages()[name]
    assert stage.help.endswith(".")
    assert len(stage.help) < 60, "it is one line of `sslkit --help`"
    assert not stage.evaluates or stage.folder, "what evaluates is recorded"
    if isinstance(stage.parses, type):
        assert issubclass(stage.parses, Command)


def test_stages_stand_in_the_order_of_the_pipeline():
    orders = [stage.order for stage in stages().values()]
    assert orders == sorted(set(orders))


def test_a_dropped_file_is_a_subcommand_a_folder_and_a_result_everywhere(dropped, tmp_path, sslkit):
    run = tmp_path / "run"
    assert "Measure brightness." in sslkit("--help")[1]
    code, out, err = sslkit("brightness", run, "--scale", 2)
    assert code == 0, err
    assert out == "bright 15.0\n"
    assert "up to date" in sslkit("brightness", run, "--scale", 2)[2]
    assert Run(run).stages() == ["brightness"]
    status = json.loads(sslkit("status", run, "--json")[1])
    assert status["stages"]["brightness"]["results"] == {"top1": 15.0}
    code, out, err = sslkit("compare", run)
    assert code == 0, err
    assert "bright" in out
    code, _, err = sslkit("report", run)
    assert code == 0, err
    assert "bright" in (run / "report.html").read_text().lower()


def test_lines_of_help_are_those_that_stages_declare():
    assert list(lines().items()) == [(name, stage.help) for name, stage in stages().items()]


@pytest.mark.parametrize(
    ("declaration", "written"),
    [
        ("STAGE = Stage(", "STAGE = Stage("),
        ("STAGE = Stage(", "STAGE: Stage = Stage("),
        ('help="Measure brightness."', 'help="Measure " + "brightness."'),
        ('name="brightness"', '**{"name": "brightness"}'),
        ("order=45", "order=int(45)"),
        ("STAGE = Stage(\n", "STAGE = Stage(  # a comment\n"),
        ("STAGE = Stage(\n", "other = Stage(name='a', help='b', order=1)\nSTAGE = Stage(\n"),
    ],
)
def test_a_dropped_file_has_its_line_however_it_is_written(dropped, declaration, written, sslkit):
    assert declaration in DROPPED
    (dropped / "brightness.py").write_text(DROPPED.replace(declaration, written))
    assert list(lines())[3:6] == ["knn", "brightness", "linear"]
    assert "\n  brightness   Measure brightness.\n" in sslkit("--help")[1]


def test_a_file_with_a_fault_leaves_the_others_their_help(dropped, sslkit):
    (dropped / "brightness.py").write_text(DROPPED.replace("def execute", "def def execute"))
    assert sslkit("--help")[0] == 0
    assert sslkit("knn", "--help")[0] == 0
    assert "invalid syntax (brightness.py, line 24)" in sslkit("brightness", "--help")[2]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("X = 1", "declares no STAGE"),
        (DROPPED.replace('name="brightness"', 'name="dark"'), "the two names must agree"),
    ],
)
def test_a_file_that_declares_nothing_or_another_name_is_refused(dropped, text, says, monkeypatch):
    (dropped / "brightness.py").write_text(text)
    monkeypatch.delitem(sys.modules, "stages.brightness", raising=False)
    contract.stages.cache_clear()
    with pytest.raises(SslkitError, match=says):
        stages()
    with pytest.raises(SslkitError, match=says):
        lines()
