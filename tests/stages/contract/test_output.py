"""Output that every terminal takes, whatever a run's folder is called."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import command
from PIL import Image

from stages.contract.layout import Run

ODD = os.fsdecode(b"caf\xe9 \xff\xf0\x9f\x90\x88")  # bytes that are not UTF-8, then a cat that is


@pytest.fixture(scope="module")
def odd_run(trained_run, tmp_path_factory) -> Path:
    """A trained run in a folder whose name no encoding has."""
    return Path(shutil.copytree(trained_run, tmp_path_factory.mktemp("odd") / ODD))


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", "+-"), ("latin-1", "±"), ("utf-8", "±")])
def test_results_fit_the_terminal(encoding, shown, odd_run):
    """Signs that an ASCII terminal lacks are spelled out, and bytes of a path are shown as Latin-1."""
    words = command("knn", odd_run, "--shots", "1", "--draws", 3)
    done = subprocess.run(words, capture_output=True, env={**os.environ, "PYTHONIOENCODING": encoding}, check=True)
    assert shown in done.stdout.decode(encoding)
    words = command("status", odd_run)
    done = subprocess.run(words, capture_output=True, env={**os.environ, "PYTHONIOENCODING": encoding}, check=True)
    assert ("caf?" if encoding == "ascii" else "café") in done.stdout.decode(encoding)


@pytest.mark.parametrize(
    "words",
    [
        ["extract", "--force", "--workers", 0, "--device", "cpu"],
        ["neighbours"],
        ["attn-viz", "--device", "cpu"],
        ["report", "--out", "report.html"],
        ["curves", "--out", "curves.png"],
        ["export", "exported", "--format", "timm"],
        ["compare"],
    ],
    ids=lambda words: words[0],
)
def test_stages_work_where_the_path_is_not_text(words, odd_run, sslkit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = sslkit(words[0], odd_run, *words[1:])
    assert code == 0, err


def test_a_title_can_be_drawn_and_encoded(tmp_path):
    assert Run(tmp_path / ODD).title == "café ÿ🐈"


def test_no_stream_is_needed(trained_run):
    """As under a service that has closed standard output and error."""
    closing = [sys.executable, "-c", "import sys; sys.stdout = sys.stderr = None; from stages.cli import main; main()"]
    assert subprocess.run([*closing, "status", str(trained_run)], check=False).returncode == 0


def test_a_name_breaks_no_line_and_commands_no_terminal(sslkit, tmp_path):
    for label, name in (("cat\nfish", "0.png"), ("dog", "1.png"), ("dog", "\x1b[2J.png"), ("dog", "gone\r.png")):
        path = tmp_path / "photos" / label / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((8, 8), 80).convert("RGB").save(path)
    path.write_bytes(b"no picture")
    code, out, err = sslkit("prepare", tmp_path / "run\x1b[2J", "--source", tmp_path / "photos", "--workers", 0)
    assert code == 0, err
    assert r"1 (cat\nfish)" in out
    for text in (out, err, *sslkit("knn", tmp_path / "run\x1b[2J")[1:]):
        assert not set(text) & {"\x1b", "\r"}
    code, _, err = sslkit("prepare", tmp_path / "strict", "--source", tmp_path / "photos", "--strict")
    assert code == 1
    assert len(err.splitlines()) == 1
