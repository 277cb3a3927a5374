import json
import os

import pytest
from source_files import png, write

from sslkit.data.sources.folder import FolderSource

TABLES = {
    "deep.json": b"[" * 5000,
    "huge.json": b'[{"file": "0.png", "label": ' + b"9" * 5000 + b"}]",
    "cut.json": b'[{"file": "0.png", "lab',
    "cut.jsonl": b'{"file": "0.png"}\n{',
    "list.jsonl": b"[1, 2]\n5\n",
    "field.csv": b'file,label\n0.png,"' + b"x" * 200_000 + b'"\n',
    "nul.csv": b"file,label\n0.png,\0\0\n",
    "wide.csv": b"file,label\n0.png," + b"," * 20_000 + b"\n",
    "noise.parquet": b"PAR1" + bytes(range(256)) + b"PAR1",
}


@pytest.mark.parametrize("name", TABLES)
def test_a_damaged_table_next_to_photos_costs_only_itself(name, tmp_path):
    root = write(tmp_path / "photos", {f"{i}.png": png(i) for i in range(3)} | {name: TABLES[name]})
    source = FolderSource(root)
    source.open(tmp_path)
    assert len(source.splits()["train"]) == 3
    assert "\n" not in "".join(source.remarks)
    if name in ("deep.json", "huge.json", "cut.json", "cut.jsonl", "field.csv", "wide.csv", "noise.parquet"):
        assert any(f"{name} cannot be read (" in remark for remark in source.remarks)


def test_class_names_of_thousands_of_digits_are_names(tmp_path):
    names = ["9" * 5000, "1", "20"]
    rows = "".join(f"{i}.png,{names[i % 3]}\n" for i in range(6))
    root = write(
        tmp_path / "photos", {f"{i}.png": png(i) for i in range(6)} | {"labels.csv": f"file,label\n{rows}".encode()}
    )
    source = FolderSource(root)
    source.open(tmp_path)
    assert source.classes == sorted(names)


def test_half_a_character_in_a_label_is_no_name(tmp_path):
    """JSON can write what no encoding holds."""
    labels = [{"file": f"{i}.png", "label": "\ud800x" if i == 1 else "ab"[i % 2]} for i in range(6)]
    table = "\n".join(map(json.dumps, labels)).encode()
    root = write(tmp_path / "photos", {f"{i}.png": png(i) for i in range(6)} | {"labels.jsonl": table})
    source = FolderSource(root)
    source.open(tmp_path)
    assert source.classes == ["?x", "a", "b"]


def test_a_parquet_file_that_is_a_fifo_is_refused(tmp_path, sslkit):
    root = write(tmp_path / "photos", {"0.png": png(0)})
    os.mkfifo(root / "train.parquet")
    code, _, err = sslkit("prepare", tmp_path / "run", "--source", root, "--workers", 0)
    assert code == 1
    assert "train.parquet cannot be read: it is a FIFO, no regular file" in err


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-8-sig"])
def test_a_table_with_a_byte_order_mark_is_read(encoding, tmp_path):
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    table = f"{mark}file\tlabel\n0.png\tant\n1.png\tb\u00e9e\n2.png\tant\n".encode(encoding)
    root = write(tmp_path / "photos", {f"{i}.png": png(i) for i in range(3)} | {"labels.tsv": table})
    source = FolderSource(root)
    source.open(tmp_path)
    assert source.classes == ["ant", "b\u00e9e"]
    cut = FolderSource(write(tmp_path / "cut", {f"{i}.png": png(i) for i in range(3)} | {"labels.tsv": table[:-1]}))
    cut.open(tmp_path)
    assert len(cut.splits()["train"]) == 3
