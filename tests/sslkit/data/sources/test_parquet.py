"""Parquet files of images, as the Hub gives them and as others write them."""

import json
import sys

import pytest
from source_files import counts, opened, taken, tinted, write

from sslkit import registry
from sslkit.data.sources.base import PACKAGE
from sslkit.errors import SslkitError, UsageError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
FEATURES = {"image": {"_type": "Image"}, "label": {"names": ["ant", "bee", "cat"], "_type": "ClassLabel"}}


def table(numbers, label="label", features=FEATURES, image="image", names=None, plain=False):
    cells = [
        tinted(i % 3, i, "PNG") if plain else {"bytes": tinted(i % 3, i, "PNG"), "path": f"{i}.png"} for i in numbers
    ]
    columns = {image: cells}
    if label:
        columns[label] = [names[i % 3] if names else i % 3 for i in numbers]
    metadata = {"huggingface": json.dumps({"info": {"features": features}})} if features else None
    return pa.table(columns).replace_schema_metadata(metadata)


def save(path, *arguments, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table(*arguments, **options), path)
    return path


def test_files_of_the_hub(tmp_path):
    root = tmp_path / "root"
    for shard in range(2):
        save(root / f"data/train-{shard:05d}-of-00002.parquet", range(12 * shard, 12 * shard + 12))
    save(root / "data/test-00000-of-00001.parquet", range(9))
    write(root, {"README.md": "words"})
    source = taken(root, tmp_path, "parquet")
    assert counts(source) == {"train": (24, 24), "val": (9, 9)}
    assert source.classes == ["ant", "bee", "cat"]
    assert source.name("train", 13) == "train-00001-of-00002/13.png"
    assert dict(source.left_out) == {".md": 1}
    assert source.remarks == ["val is the source's test"]


def test_splits_in_folders_and_a_test_that_is_not_used(tmp_path):
    for split, count in (("train", 6), ("validation", 3), ("test", 3)):
        save(tmp_path / f"root/default/{split}/0000.parquet", range(count))
    source = taken(tmp_path / "root", tmp_path, "parquet")
    assert counts(source) == {"train": (6, 6), "val": (3, 3)}
    assert source.remarks == ["test (1 files) is not used, as there is a val"]


def test_a_test_without_labels_is_not_val_where_train_has_labels(tmp_path):
    save(tmp_path / "root/train-0.parquet", range(6))
    save(tmp_path / "root/test-0.parquet", range(3), None)
    source = taken(tmp_path / "root", tmp_path, "parquet")
    assert counts(source) == {"train": (6, 6)}
    assert source.remarks[-1] == "test is not used: none of its 3 images has a label"


def test_one_file_of_plain_bytes_with_names_as_labels(tmp_path):
    path = save(
        tmp_path / "photos.parquet", range(6), "category", None, "picture", names=("ant", "bee", "cat"), plain=True
    )
    source = taken(path, tmp_path, "parquet")
    assert counts(source) == {"train": (6, 6)}
    assert source.classes == ["ant", "bee", "cat"]


def test_without_labels(tmp_path):
    assert counts(taken(save(tmp_path / "a.parquet", range(3), None), tmp_path, "parquet")) == {"train": (3, 0)}


def test_what_cannot_be_read_is_one_line(tmp_path, monkeypatch):
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "text.parquet")
    (tmp_path / "cut.parquet").write_bytes(save(tmp_path / "whole.parquet", range(3)).read_bytes()[:500])
    with pytest.raises(SslkitError, match="no column of encoded images: its columns are text"):
        opened("parquet", tmp_path / "text.parquet", tmp_path)
    with pytest.raises(SslkitError, match=r"cut.parquet cannot be read"):
        opened("parquet", tmp_path / "cut.parquet", tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setattr("sslkit.data.sources.parquet.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'sslkit\[parquet\]'"):
        opened("parquet", tmp_path / "whole.parquet", tmp_path)


@pytest.fixture
def two_labels(tmp_path):
    columns = table(range(6), "coarse_label", None)
    columns = columns.append_column("fine_label", pa.array(range(6)))
    pq.write_table(columns.append_column("thumbnail", pa.array([b"x"] * 6)), tmp_path / "photos.parquet")
    return tmp_path / "photos.parquet"


@pytest.mark.parametrize(("key", "label", "other", "classes"), [
    (None, "fine_label", "coarse_label", 6), ("coarse_label", "coarse_label", "fine_label", 3),
])  # fmt: skip
def test_the_columns_taken_and_the_others_are_said(key, label, other, classes, two_labels, tmp_path):
    source = registry.load(PACKAGE, "parquet")(two_labels)
    source.label_key = key
    source.open(tmp_path)
    assert source.took == f"images in image, labels in {label}"
    assert len(source.classes) == classes
    assert set(source.remarks) == {
        "thumbnail holds images as well and is not used",
        f"{other} holds labels as well: --label-key {other} takes it",
    }


def test_files_that_differ_in_their_columns_are_said(tmp_path):
    save(tmp_path / "root/train.parquet", range(3))
    save(tmp_path / "root/val.parquet", range(3), None)
    source = taken(tmp_path / "root", tmp_path, "parquet")
    assert counts(source) == {"train": (3, 3), "val": (3, 0)}
    assert "the files differ in their columns: images in image, labels in label; images in image, no labels" in (
        source.remarks
    )


def test_a_label_column_of_an_unknown_name_is_said(tmp_path):
    source = taken(save(tmp_path / "a.parquet", range(3), "genus", None), tmp_path, "parquet")
    assert counts(source) == {"train": (3, 0)}
    assert source.remarks == ["no column is known to hold labels; --label-key NAME takes one of: genus"]
    assert source.took.endswith("images in image, no labels")
