"""Damaged artifacts are named in one line; whole ones come back."""

import json
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from sslkit.artifacts import DamagedFile, check_digest, check_zip, mismatch, read_json, read_rows
from sslkit.files import sha256

SHAPE = {"name": str, "sizes": {str: int}, "rows": [{"loss": (float, None)}], "note?": str}
GOOD = {"name": "a", "sizes": {"x": 1}, "rows": [{"loss": 1}, {"loss": None}], "more": []}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (b'{"name": "a", ', "it ends too early"),
        (b'{"name": "a', "it ends too early"),
        (b'{"name": }', "it is not JSON (line 1, column 10)"),
        (b'{"name": "caf\xe9"}', "it is not UTF-8 text (byte 13)"),
        ('{"name": "a"}'.encode("utf-16"), "it is not UTF-8 text (byte 0)"),
        (b"[" * 100_000, "it is not JSON (maximum recursion depth exceeded"),
        (b"[]", "it is a list where a mapping is expected"),
        (b"null", "it is null where a mapping is expected"),
        (b"{}", "'name' is missing"),
    ],
)
def test_json_that_is_not_what_was_written_says_why(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "facts.json"
    path.write_bytes(content)
    with pytest.raises(DamagedFile) as caught:
        read_json(path, SHAPE)
    assert str(caught.value).startswith(f"{path} is damaged: {why}")
    copy = pickle.loads(pickle.dumps(caught.value))  # as from a worker
    assert (str(copy), copy.path, copy.why) == (str(caught.value), path, caught.value.why)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, ""),
        ({"note": "x"}, ""),
        ({"name": 3}, "name is a whole number where text is expected"),
        ({"note": None}, "note is null where text is expected"),
        ({"sizes": {"x": True}}, "sizes.x is true or false where a whole number is expected"),
        ({"sizes": {"x": 1, "y": 1.5}}, "sizes.y is a number where a whole number is expected"),
        ({"rows": {}}, "rows is a mapping where a list is expected"),
        ({"rows": [{"loss": 1}, {}]}, "'rows[1].loss' is missing"),
        ({"rows": [{"loss": "x"}]}, "rows[0].loss is text where a number is expected"),
    ],
)
def test_a_shape_says_which_part_differs(change: dict, words: str) -> None:
    assert mismatch(GOOD | change, SHAPE) == words


@pytest.mark.parametrize("kind", ["FIFO", "folder", "dangling link", "circle"])
def test_what_is_no_file_is_not_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "facts.json"
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("gone" if kind == "dangling link" else path.name)
    for read in (read_json, read_rows):
        with pytest.raises(DamagedFile):
            read(path)


def test_rows_name_the_line_and_leave_out_one_that_is_being_written(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert read_rows(path) == []
    path.write_text('{"step": 1}\n{"ste')
    assert read_rows(path) == [{"step": 1}]
    path.write_text('{"step": 1}\n[2]\n')
    with pytest.raises(DamagedFile, match="line 2: it is a list where a mapping is expected"):
        read_rows(path)


def test_a_digest_is_of_the_bytes_that_are_there_now(tmp_path: Path) -> None:
    path = tmp_path / "array"
    path.write_bytes(b"0" * 100)
    os.utime(path, (1, 1))
    digest = sha256(path)
    check_digest(path, digest)
    path.write_bytes(b"1" * 100)
    with pytest.raises(DamagedFile, match="its bytes are not those that were written"):
        check_digest(path, digest)


def test_torch_files_are_compared_with_their_checksums(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"weight": torch.arange(1000.0)}, path)
    check_zip(path)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        data = next(info for info in archive.infolist() if "/data/" in info.filename)
    place = whole.index(torch.arange(1000.0).numpy().tobytes()) + data.file_size // 2
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    assert torch.load(path)["weight"].shape == (1000,)  # torch takes it
    with pytest.raises(DamagedFile, match=r"checksum of .*/data/0 is wrong"):
        check_zip(path)
    path.write_text(json.dumps("no zip"))
    check_zip(path)
