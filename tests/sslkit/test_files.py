"""Files that are read while they are written."""

from pathlib import Path

from sslkit.artifacts import read_rows


def test_a_log_that_is_being_written_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "log").write_text('{"step": 1}\n{"ste')
    assert read_rows(tmp_path / "log") == [{"step": 1}]
