"""`sslkit curves`."""

import io
import json
import math
from pathlib import Path

from PIL import Image


def write(run: Path, rows: list[dict]) -> Path:
    path = run / "pretrain" / "metrics.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return run


def log(*objectives: str) -> list[dict]:
    """Two log lines, K = 64."""
    metrics = {"teacher_entropy": 3.0, "kl": 0.5, "ln_k": math.log(64)}
    logged = {f"{name}/{metric}": value for name in objectives for metric, value in metrics.items()}
    return [{"step": 10 * epoch, "epoch": epoch, "loss": 2.0, **logged} for epoch in (1, 2)]


def size(path: Path) -> tuple[int, int]:
    with Image.open(io.BytesIO(path.read_bytes())) as picture:
        return picture.size


def test_the_command_draws_the_collapse_figure(sslkit, tmp_path: Path) -> None:
    runs = [write(tmp_path / name, log("dino")) for name in ("a-s0", "a-s1", "b")]
    picture = tmp_path / "figures" / "out.png"
    code, out, err = sslkit("curves", *runs, "--out", picture)
    assert (code, out, err) == (0, f"{picture}\n", "")
    wide, tall = size(picture)
    assert wide > 1.5 * tall
    code, out, _ = sslkit("curves", *runs, "--out", picture, "--seeds", "--json")
    assert json.loads(out)["runs"] == {"a": 2, "b": 1}
    assert json.loads(out)["metrics"] == ["teacher_entropy", "kl"]
    assert sslkit("curves", *runs, "--out", picture, *(["--metric", "loss"] * 4))[0] == 0
    assert size(picture)[1] > tall


def test_a_run_without_the_metric_is_named_and_an_unknown_one_is_an_error(sslkit, tmp_path: Path, monkeypatch) -> None:
    runs = [write(tmp_path / "a", log("dino")), write(tmp_path / "b", log())]
    picture = tmp_path / "out.png"
    code, _, err = sslkit("curves", *runs, "--out", picture, "--metric", "kl")
    assert code == 0
    assert err == "note: b logged no kl, so it has no line there\n"
    picture.unlink()
    code, out, err = sslkit("curves", *runs, "--out", picture, "--metric", "teacher_entropi")
    assert (code, out) == (2, "")
    assert err == "sslkit: no run logged 'teacher_entropi': did you mean 'teacher_entropy'?\n"
    assert sslkit("curves", *runs, "--out", tmp_path / "out.pdf")[0] == 2
    assert not picture.exists()
    with monkeypatch.context() as patch:
        patch.chdir(tmp_path)
        code, _, err = sslkit("curves", "none", "--out", picture)
    assert code == 1
    assert err.startswith("sslkit: no run directory at none")
    (tmp_path / "none").mkdir()
    code, _, err = sslkit("curves", tmp_path / "none", "--out", picture)
    assert code == 1
    assert "none/pretrain/metrics.jsonl is missing: run `sslkit pretrain" in err
    code, _, err = sslkit("curves", write(tmp_path / "new", []), "--out", picture)
    assert code == 1
    assert "is still empty" in err
