"""Whatever names a file or a folder on the command line may be something else that would block or never end."""

import os
import socket
from pathlib import Path

import pytest
import typer
from click import Command, Parameter

from stages import cli
from stages.contract.stage import stages

COMMANDS: dict[str, Command] = {name: cli.parser(name) for name in stages()}
NAMES_A_PATH = ("FILE", "DIR", "RUN", "PATH")
OPTIONS = [
    (name, parameter)
    for name, stage in stages().items()
    if not isinstance(stage.parses, typer.Typer)
    for parameter in COMMANDS[name].params
    if any(word in (parameter.metavar or "") for word in NAMES_A_PATH) or parameter.name in ("recipes", "source")
]


def words_for(name: str, parameter: Parameter, value: object) -> list[object]:
    """A command line on which everything that is required is there, and one parameter has a value."""
    words: list[object] = []
    for each in COMMANDS[name].params:
        if each is parameter or each.required or each.name == "run":
            given = value if each is parameter else "x"
            words += [given] if each.param_type_name == "argument" else [each.opts[0], given]
    return words


def test_there_are_such_options() -> None:
    assert len(OPTIONS) > 50


@pytest.mark.parametrize(("name", "parameter"), OPTIONS, ids=[f"{name} {each.name}" for name, each in OPTIONS])
def test_an_option_does_not_open_a_fifo(name: str, parameter: Parameter, tmp_path: Path, sslkit) -> None:
    os.mkfifo(tmp_path / "fifo")
    code, _, err = sslkit(name, *words_for(name, parameter, tmp_path / "fifo"))
    assert code == 2
    shown = "" if parameter.param_type_name == "argument" else f"{parameter.opts[0]} "
    assert err.splitlines()[-1] == f"sslkit: {shown}{tmp_path / 'fifo'}: it is a FIFO, no regular file or folder"


def test_nor_a_device_a_socket_or_a_link_to_nothing_nor_the_file_of_a_column(tmp_path: Path, sslkit, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's path has at most 108 bytes
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
    Path("link").symlink_to("nowhere")
    Path("device").symlink_to("/dev/zero")
    os.mkfifo("table.csv")
    for path, kind in (("socket", "a socket"), ("link", "a link to nothing"), ("device", "a device")):
        code, _, err = sslkit("extract", "run", "--weights", path)
        assert (code, err) == (2, f"sslkit: --weights {path}: it is {kind}, no regular file or folder\n")
    _, _, err = sslkit("prepare", "run", "--source", ".", "--labels", "table.csv:label")
    assert "--labels table.csv:label: it is a FIFO" in err


@pytest.mark.parametrize("words", ["knn X", "extract run --data X", "compare X X", "attn-viz run --against X"])
def test_a_run_is_no_file(words: str, tmp_path: Path, sslkit) -> None:
    (tmp_path / "file").write_text("")
    code, _, err = sslkit(*words.replace("X", str(tmp_path / "file")).split())
    assert code == 1
    assert f"{tmp_path / 'file'} is a file, no run directory" in err
