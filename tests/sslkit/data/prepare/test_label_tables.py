import json

import pytest
from source_files import lay_out

from sslkit.data.prepare.label_tables.table import ImageNames, read_labels
from sslkit.errors import SslkitError, UsageError

IMAGES = [f"img/{i:03d}.png" for i in range(6)]
CLASSES = ["ant", "bee", "cat"] * 2
FILES = [f"{i:03d}.png" for i in range(6)]
ROWS = list(zip(FILES, CLASSES, strict=True))


def classes(name, text, column="", images=IMAGES):
    found = read_labels(name, text.encode(), ImageNames(images), column)
    return [found.classes.get(i) for i in range(len(images))]


def table(mark, header, rows):
    return "\n".join(mark.join(map(str, row)) for row in [*([header] if header else []), *rows]) + "\n"


@pytest.mark.parametrize(("name", "text"), [
    ("labels.csv", table(",", ["filename", "label"], ROWS)),
    ("labels.csv", table(";", ["label", "file"], [(c, f"img/{i:03d}.png") for i, c in enumerate(CLASSES)])),
    ("train.csv", table(",", ["id", "breed"], [(f"{i:03d}", c) for i, c in enumerate(CLASSES)])),
    ("labels.tsv", table("\t", ["path", "class", "score"], [(f"/old/img/{f}", c, i) for i, (f, c) in enumerate(ROWS)])),
    ("list.txt", table(" ", None, [(f"img/{i:03d}.png", c) for i, c in enumerate(CLASSES)])),
    ("ImageSets/Main/all.txt", table("  ", None, [(f"{i:03d}", c) for i, c in enumerate(CLASSES)])),
    ("val_annotations.txt", table("\t", None, [(f"{i:03d}.png", c, 0, 1, 2, 3) for i, c in enumerate(CLASSES)])),
    ("labels.jsonl", "".join(json.dumps({"file_name": f, "label": c}) + "\n" for f, c in ROWS)),
    ("labels.json", json.dumps(dict(ROWS))),
    ("labels.json", json.dumps([{"image": f, "class_name": c, "label": CLASSES.index(c)} for f, c in ROWS])),
    ("truth.csv", table(",", ["image", "ant", "bee", "cat"], [
        (f"{i:03d}", *(f"{float(c == k)}" for k in ("ant", "bee", "cat"))) for i, c in enumerate(CLASSES)])),
    ("img/metadata.csv", "\ufeff" + table(",", ["file_name", "label"], ROWS)),
])  # fmt: skip
def test_tables_of_every_kind_name_the_classes(name, text):
    assert classes(name, text) == CLASSES


def test_whole_numbers_that_became_floats_are_whole():
    rows = [(f"{i:03d}.png", f"{i % 3}.0") for i in range(6)]
    assert classes("labels.csv", table(",", ["file", "label"], rows)) == ["0", "1", "2"] * 2


def test_a_number_that_is_also_a_file_name_is_no_file_column():
    images = [f"{i}.png" for i in range(6)]
    rows = [(f"{i}.png", i % 3) for i in range(6)]
    assert classes("labels.csv", table(",", ["name", "label"], rows), images=images) == ["0", "1", "2"] * 2


def test_the_same_file_name_in_two_folders_is_the_one_of_the_tables_split():
    images = ["train/1.png", "test/1.png", "train/2.png", "test/2.png"]
    text = table(",", ["id", "label"], [("1", "ant"), ("2", "bee")])
    assert classes("test.csv", text, images=images) == [None, "ant", None, "bee"]
    assert classes("test/metadata.csv", text, images=images) == [None, "ant", None, "bee"]
    assert classes("labels.csv", text, images=images) == [None] * 4


def test_a_column_is_taken_by_name_or_number():
    rows = [(f"{i:03d}.png", c, i % 2) for i, c in enumerate(CLASSES)]
    text = table(",", ["file", "label", "sex"], rows)
    assert classes("labels.csv", text, "sex") == ["0", "1"] * 3
    assert classes("labels.csv", text, "3") == ["0", "1"] * 3
    with pytest.raises(UsageError, match="no column 'age', only file, label, sex"):
        classes("labels.csv", text, "age")


def test_a_table_about_something_else_and_captions_name_no_class():
    assert not read_labels("readme.txt", b"these are images\nof ants", ImageNames(IMAGES)).tables
    captions = table(",", ["file_name", "text"], [(f"{i:03d}.png", f"an ant, number {i}") for i in range(6)])
    found = read_labels("metadata.csv", captions.encode(), ImageNames(IMAGES))
    assert not found.classes
    assert "no class column found among: text" in found.tables["metadata.csv"]


def test_a_table_that_is_not_what_its_suffix_says_is_an_error():
    with pytest.raises(SslkitError, match=r"labels.json cannot be read"):
        read_labels("labels.json", b"{", ImageNames(IMAGES))


def source_with(tmp_path, files, tables, labels=""):
    root = lay_out(tmp_path / "root", files)
    for name, text in tables.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    from sslkit.data.sources.folder import FolderSource

    source = FolderSource(root)
    source.labels = labels
    (tmp_path / "scratch").mkdir(exist_ok=True)
    source.open(tmp_path / "scratch")
    return source


def named(source):
    return {
        split: [source.classes[label] if label >= 0 else "" for label in labels.tolist()]
        for split, labels in source.splits().items()
    }


LABELS = table(",", ["filename", "label"], ROWS)


def test_one_folder_of_images_next_to_a_table(tmp_path):
    source = source_with(tmp_path, IMAGES, {"labels.csv": LABELS})
    assert named(source) == {"train": CLASSES}
    assert source.classes == ["ant", "bee", "cat"]
    assert "labels.csv (files in filename, classes in label)" in source.remarks[0]
    assert not source.left_out


def test_metadata_in_each_split_as_hugging_face_has_it(tmp_path):
    tables = {
        f"{split}/metadata.csv": table(",", ["file_name", "label"], [(f"{i:03d}.png", i % 3) for i in range(count)])
        for split, count in (("train", 6), ("test", 3))
    }
    files = [f"{split}/{i:03d}.png" for split, count in (("train", 6), ("test", 3)) for i in range(count)]
    assert named(source_with(tmp_path, files, tables)) == {"train": ["0", "1", "2"] * 2, "val": ["0", "1", "2"]}


def test_parts_of_a_dataset_are_no_classes_and_a_split_column_splits(tmp_path):
    files = [f"images_part_{1 + i // 3}/{i:03d}.png" for i in range(6)]
    rows = [(f"{i:03d}", c, "train" if i < 4 else "test") for i, c in enumerate(CLASSES)]
    source = source_with(tmp_path, files, {"metadata.csv": table(",", ["image_id", "dx", "split"], rows)})
    assert named(source) == {"train": CLASSES[:4], "val": CLASSES[4:]}


def test_lists_of_train_and_val_split_the_images(tmp_path):
    lists = {
        f"lists/{split}.txt": table(" ", None, [(f"img/{i:03d}.png", CLASSES[i]) for i in rows])
        for split, rows in (("train", range(4)), ("val", range(4, 6)))
    }
    assert named(source_with(tmp_path, IMAGES, lists)) == {"train": CLASSES[:4], "val": CLASSES[4:]}


def test_class_folders_win_and_the_table_is_mentioned(tmp_path):
    files = [f"{'xy'[i % 2]}/{i:03d}.png" for i in range(6)]
    source = source_with(tmp_path, files, {"labels.csv": LABELS})
    assert named(source) == {"train": ["x"] * 3 + ["y"] * 3}
    assert any("labels.csv is not used" in remark and "--labels labels.csv" in remark for remark in source.remarks)
    source = source_with(tmp_path, files, {}, "labels.csv:label")
    assert sorted(named(source)["train"]) == sorted(CLASSES)


def test_images_without_a_row_and_rows_without_an_image_are_counted(tmp_path):
    text = "file,label\n000.png,ant\n001.png,bee\n002.png,ant\n003.png,bee\n900.png,ant\n"
    source = source_with(tmp_path, IMAGES, {"labels.csv": text})
    assert named(source) == {"train": ["ant", "bee"] * 2 + ["", ""]}
    assert "2 of 6 images are in no table and have no label" in source.remarks
    assert "1 row names files that are not there" in source.remarks


def test_a_table_without_a_class_column_is_mentioned(tmp_path):
    text = table(",", ["file", "age", "sex"], [(f"{i:03d}.png", i % 3, i % 2) for i in range(6)])
    source = source_with(tmp_path, [f"{i:03d}.png" for i in range(6)], {"facts.csv": text})
    assert named(source) == {"train": [""] * 6}
    assert any("not used; name a column by --labels facts.csv:COLUMN" in remark for remark in source.remarks)


def test_a_table_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"--labels nowhere.csv: no such file"):
        source_with(tmp_path, IMAGES, {}, "nowhere.csv")


def test_a_file_with_two_classes_is_said_with_the_row_that_counts(tmp_path):
    rows = [*ROWS, (FILES[0], "bee"), (FILES[0], "cat"), (FILES[1], "bee")]
    source = source_with(tmp_path, IMAGES, {"labels.csv": table(",", ["file", "label"], rows)})
    assert named(source) == {"train": ["cat", *CLASSES[1:]]}
    assert (
        "1 file has more than one class in labels.csv (such as img/000.png: ant, bee, cat); the last row counts"
        in source.remarks
    )


def test_a_table_that_gives_most_files_several_classes_is_refused(tmp_path):
    rows = [*ROWS, *((file, "dog") for file in FILES[:4])]
    text = table(",", ["file", "label"], rows)
    words = r"labels.csv is not used: 4 files have more than one class .*img/000.png: ant, dog\); a file has one class"
    with pytest.raises(SslkitError, match=words):
        source_with(tmp_path, IMAGES, {"labels.csv": text}, "labels.csv")
    source = source_with(tmp_path, IMAGES, {"labels.csv": text})
    assert any("labels.csv is not used: 4 files" in remark for remark in source.remarks)


def test_tables_and_lists_that_contradict_each_other_are_said(tmp_path):
    lists = {
        "a_train.txt": table(" ", None, ROWS[:4]),
        "b_val.txt": table(" ", None, [(FILES[3], "bee"), *ROWS[4:]]),
    }
    source = source_with(tmp_path, IMAGES, lists)
    assert named(source) == {"train": CLASSES[:3], "val": ["bee", *CLASSES[4:]]}
    for what in ("class", "split"):
        assert any(f"1 file has another {what} in b_val.txt than in a_train.txt" in r for r in source.remarks)


def notes(header, rows, column=""):
    return read_labels("t.csv", table(",", header, rows).encode(), ImageNames(IMAGES), column).notes


def test_other_columns_that_could_hold_the_classes_are_said():
    header = ["file", "id", "genus", "species", "weight", "split", "label_id"]
    rows = [(f, i, "AB"[i % 2], c, i // 3 + 0.5, "train", i // 2) for i, (f, c) in enumerate(ROWS)]
    (note,) = notes(header, rows)
    assert note == (
        "t.csv has other columns that may hold classes: genus, label_id; --labels t.csv:genus takes the first of them"
    )
    assert notes(header, rows, "genus") == []
    assert notes(None, [(f, c, "xy"[i % 2]) for i, (f, c) in enumerate(ROWS)]) == [
        "t.csv has other columns that may hold classes: 3; --labels t.csv:3 takes it"
    ]


def test_a_number_for_each_class_name_is_no_other_choice():
    assert notes(["file", "class_name", "label"], [(f, c, CLASSES.index(c)) for f, c in ROWS]) == []


@pytest.mark.parametrize(("values", "words"), [
    (["0.5", "1e-3", "2.25", "7", "-0.1", "0.5"], "measurements, not classes: 5 numbers in 6 rows"),
    (["a", "b", "c", "d", "e", "f"], "every image a class of its own: 6 classes"),
    (["5", "6", "7", "8", "9", "10"], "every image a class of its own: 6 classes"),
    (["1.0", "2.0", "1.0", "2.0", "3.0", "4.0"], ""),
    (["0.5", "1.5", "0.5", "1.5", "0.5", "1.5"], ""),
])  # fmt: skip
def test_values_that_are_no_classes_are_said(values, words):
    found = notes(["file", "score", "place"], [(f, v, "x") for f, v in zip(FILES, values, strict=True)], "score")
    assert len(found) == bool(words)
    assert all(f"{words}; --labels t.csv:COLUMN takes another column (place)" in note for note in found)


FOODS = [f"images/{name}/{i:03d}.jpg" for name in ("ant", "bee") for i in range(4)]
LISTS = {
    "meta/train.txt": "ant/000\nant/001\nant/002\nbee/000\nbee/001\n",
    "meta/test.txt": "ant/003\nbee/003\n",
}


def test_lists_without_classes_split_class_folders(tmp_path):
    source = source_with(tmp_path, FOODS, LISTS)
    assert named(source) == {"train": ["ant"] * 3 + ["bee"] * 2, "val": ["ant", "bee"]}
    assert source.remarks[:2] == [
        "splits are read from meta/test.txt (files in column 1, no other column); "
        "meta/train.txt (files in column 1, no other column)",
        "1 image is in no split of the tables and not used",
    ]
    assert not source.left_out


def test_lists_with_classes_split_class_folders_that_keep_their_names(tmp_path):
    lists = {
        name: "".join(f"{line}.jpg {int(line[0] == 'b')}\n" for line in text.split()) for name, text in LISTS.items()
    }
    source = source_with(tmp_path, FOODS, lists)
    assert named(source) == {"train": ["ant"] * 3 + ["bee"] * 2, "val": ["ant", "bee"]}
    assert any("gives the splits only, as the class folders name the classes; --labels" in r for r in source.remarks)


def test_lists_next_to_folders_that_are_split_are_not_used(tmp_path):
    files = [f"{split}/{name}/{i}.jpg" for split in ("train", "val") for name in ("ant", "bee") for i in range(2)]
    lists = {"train.txt": "train/ant/0\ntrain/bee/0\n", "test.txt": "train/ant/1\nval/bee/1\n"}
    source = source_with(tmp_path, files, lists)
    assert named(source) == {"train": ["ant"] * 2 + ["bee"] * 2, "val": ["ant"] * 2 + ["bee"] * 2}
    assert any("is not used, as the folders name the splits" in remark for remark in source.remarks)


@pytest.mark.parametrize(("header", "column"), [(None, "1"), (["file", "label"], "1"), (["file", "label"], "file")])
def test_the_column_of_files_is_refused_as_classes(header, column):
    with pytest.raises(UsageError, match=f"column '{column}' of t.csv names the files, .*other columns: (label|2)$"):
        notes(header, ROWS, column)
