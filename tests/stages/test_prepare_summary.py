"""What prepare says at its end: what it took the place for, each split, what was assumed, what was left out."""

import io
import json

import pytest
import typer
from PIL import Image
from source_files import tar_bytes, tinted, write

from sslkit.errors import UsageError
from stages import prepare as stage


def said(capsys, *words):
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command()(stage.Prepare)
    app(["--workers", "0", *map(str, words)], standalone_mode=False).execute()
    return capsys.readouterr().out.splitlines()


def frames(kind, count):
    buffer = io.BytesIO()
    first, *others = [Image.new("RGB", (40, 40), (50 * i, 0, 0)) for i in range(count)]
    first.save(buffer, kind, save_all=True, append_images=others)
    return buffer.getvalue()


def split_files(train, val):
    files = {f"Training/{name}/{i}.jpg": tinted(at, i) for at, (name, n) in enumerate(train.items()) for i in range(n)}
    return files | {f"Testing/{k}/{i}.jpg": tinted(at, i) for at, (k, n) in enumerate(val.items()) for i in range(n)}


def test_each_split_in_a_line(tmp_path, capsys):
    root = write(tmp_path / "root", split_files({"ant": 3, "bee": 8}, {"ant": 2, "bee": 2}))
    Image.new("RGB", (60, 50)).save(root / "Training/ant/wide.png")
    lines = said(capsys, tmp_path / "run", "--source", root)
    assert lines[:3] == [
        "source folder: class folders in Training/ and Testing/",
        "train  12 images, 40 x 40 to 60 x 50 px, 2 classes of 4 (ant) to 8 (bee)",
        "val    4 images, 40 x 40 px, 2 classes of 2",
    ]


def test_the_summary_is_in_the_json_and_stays_when_up_to_date(tmp_path, capsys):
    root = write(tmp_path / "root", split_files({"ant": 2, "bee": 2}, {"bee": 1}) | {"notes.txt": "words"})
    lines = said(capsys, tmp_path / "run", "--source", root)
    assert said(capsys, tmp_path / "run", "--source", root) == lines
    assert lines[-1] == "1 file left out: 1 .txt"
    results = json.loads(said(capsys, tmp_path / "run", "--source", root, "--json")[0])
    assert results["left_out"] == {".txt": 1}
    assert results["splits"]["train"]["smallest_class"] == ["ant", 2]
    assert results["splits"]["val"]["labelled_images"] == 1
    manifest = json.loads((tmp_path / "run/data/manifest.json").read_text())
    assert manifest["took"] == results["took"]
    assert manifest["remarks"] == results["remarks"]


def test_a_class_that_vanishes_is_named_at_the_end(tmp_path, capsys):
    files = {f"phone/IMG_{i}.HEIC": b"\0\0\0\x18ftypheic" + bytes(40) for i in range(5)}
    files |= {f"camera/{i}.jpg": tinted(1, i) for i in range(5)}
    lines = said(capsys, tmp_path / "run", "--source", write(tmp_path / "root", files), "--val-fraction", 0.2)
    assert "note   phone holds no image that can be read (5 .heic)" in lines
    assert lines[-1] == "5 files left out: 5 .heic"


@pytest.mark.parametrize(("kind", "name"), [("GIF", "a.gif"), ("TIFF", "a.tif"), ("WEBP", "a.webp"), ("PNG", "a.png")])
def test_frames_and_pages_beyond_the_first_are_named(kind, name, tmp_path, capsys):
    files = {f"ant/{name}": frames(kind, 4)} | {f"ant/{i}.jpg": tinted(0, i) for i in range(3)}
    lines = said(capsys, tmp_path / "run", "--source", write(tmp_path / "root", files), "--val-fraction", 0.2)
    count = [
        line
        for line in lines
        if "1 file of train holds several frames or pages, 3 beyond the first are not used" in line
    ]
    assert len(count) == 1
    assert f"{name}: 4" in count[0]


def test_label_key_is_part_of_what_was_prepared(tmp_path, capsys):
    members = {}
    for i in range(6):
        facts = {"label": 0, "animal": ("ant", "bee", "cat")[i % 3]}
        members |= {f"{i}.jpg": tinted(i % 3, i), f"{i}.json": json.dumps(facts)}
    members = {k: v.encode() if isinstance(v, str) else v for k, v in members.items()}
    root = write(tmp_path / "root", {"train-0.tar": tar_bytes(members)})
    words = (tmp_path / "run", "--source", root, "--label-key", "animal")
    assert "note   labels are 'animal' of the json members" in said(capsys, *words)
    with pytest.raises(UsageError, match="they hold animal, label"):
        said(capsys, tmp_path / "other", "--source", root, "--label-key", "species")


def test_size_only_shrinks_and_says_which_images_it_left(tmp_path, capsys):
    root = write(tmp_path / "root", split_files({"ant": 3}, {"ant": 2}))  # 40 x 40 px
    Image.new("RGB", (90, 60)).save(root / "Training/ant/large.png")
    Image.new("RGB", (400, 30)).save(root / "Training/ant/panorama.png")
    lines = said(capsys, tmp_path / "run", "--source", root, "--size", 50)
    assert (
        "note   --size 50 only shrinks: 4 of 5 images of train and 2 of 2 images of val have a shorter side below that "
        "and keep their size"
    ) in lines
    assert not [line for line in said(capsys, tmp_path / "other", "--source", root, "--size", 30) if "--size" in line]
