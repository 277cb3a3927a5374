"""A folder of images, or an archive of one."""

import gzip
import io
import pickle
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image
from source_files import add_to_tar, content, counts, lay_out, opened, png, taken, tinted, write

from sslkit import registry
from sslkit.data.sources.base import PACKAGE
from sslkit.errors import SslkitError

CLASSES = ["cat/0.png", "cat/1.png", "dog/deep/0.png"]
LABELS = ["cat", "cat", "dog"]


@pytest.mark.parametrize(("files", "expected"), [
    (CLASSES, {"train": LABELS}),
    (["a.png", "b.png"], {"train": [None, None]}),
    (["cat/a.png", "cat/b.png"], {"train": ["cat", "cat"]}),
    ([f"train/{f}" for f in CLASSES] + ["val/dog/9.png"], {"train": LABELS, "val": ["dog"]}),
    ([f"train/{f}" for f in CLASSES] + ["test/dog/9.png"], {"train": LABELS, "val": ["dog"]}),
    ([f"train/{f}" for f in CLASSES] + ["test/dog/9.png", "val/cat/9.png"], {"train": LABELS, "val": ["cat"]}),
    ([f"one/two/train/{f}" for f in CLASSES], {"train": LABELS}),
    ([f"one/two/{f}" for f in CLASSES], {"train": LABELS}),
    (["train/a.png", "train/b.png", "val/c.png"], {"train": [None, None], "val": [None]}),
    ([*CLASSES, "cat/notes.txt", ".hidden/x.png", "cat/.thumb.png", "__MACOSX/cat/0.png"], {"train": LABELS}),
])  # fmt: skip
def test_folder_layouts(files, expected, tmp_path):
    source = opened("folder", lay_out(tmp_path / "root", files), tmp_path)
    found = content(source)
    assert {split: [label for label, _ in entries] for split, entries in found.items()} == expected
    names = sorted(f for f in files if not f.endswith(".txt") and "/." not in f"/{f}" and "__MACOSX" not in f)
    for split, entries in found.items():
        for i, (_, image) in enumerate(entries):
            assert source.name(split, i) in names
            assert image == (tmp_path / "root" / source.name(split, i)).read_bytes()


@pytest.mark.parametrize("files", [
    ["img/a.png", "img/b.png"],
    ["train/images/a.png", "val/images/b.png"],
    ["train/a.png", "val/photos 1/b.png"],
])  # fmt: skip
def test_a_single_folder_with_a_plain_name_is_no_class(files, tmp_path):
    source = opened("folder", lay_out(tmp_path / "root", files), tmp_path)
    assert source.classes == []
    assert {label for labels in source.splits().values() for label in labels.tolist()} == {-1}
    assert source.took.startswith("images without class folders")
    assert any("the only folder, is not taken for a class, so no image has a label" in r for r in source.remarks)


def test_a_single_class_is_said(tmp_path):
    source = opened("folder", lay_out(tmp_path / "root", ["cat/a.png", "cat/b.png"]), tmp_path)
    assert source.classes == ["cat"]
    assert source.remarks == [
        "all images are of one class, cat, after the only folder; --labels FILE:COLUMN reads classes"
    ]
    source = opened("folder", lay_out(tmp_path / "two", ["img/a.png", "cat/b.png"]), tmp_path)
    assert source.classes == ["cat", "img"]
    assert not source.remarks


def pack_tar(root, path):
    with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as tar:
        tar.add(root, "./wrapping/again")


def pack_zip(root, path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in root.rglob("*"):
            archive.write(file, f"wrapping/{file.relative_to(root)}")


@pytest.mark.parametrize(
    ("suffix", "pack"), [(".tar", pack_tar), (".tar.gz", pack_tar), (".tgz", pack_tar), (".zip", pack_zip)]
)
def test_an_archive_is_the_folder_it_holds(suffix, pack, tmp_path):
    files = [f"train/{f}" for f in CLASSES] + ["val/dog/9.png"]
    root = lay_out(tmp_path / "root", files)
    pack(root, tmp_path / f"data{suffix}")
    expected = content(opened("folder", root, tmp_path))
    source = opened("folder", tmp_path / f"data{suffix}", tmp_path)
    assert content(source) == expected
    assert content(pickle.loads(pickle.dumps(source))) == expected


def test_a_packed_flat_folder_is_unlabelled(tmp_path):
    pack_zip(lay_out(tmp_path / "root", ["a.png", "b.png"]), tmp_path / "photos.zip")
    assert opened("folder", tmp_path / "photos.zip", tmp_path).splits()["train"].tolist() == [-1, -1]


def test_images_with_masks_beside_them(tmp_path):
    root = lay_out(tmp_path / "root", ["images/a.png", "images/b.png", "masks/a.png"])
    Image.new("L", (4, 4), 255).save(root / "masks" / "b.bmp")
    source = opened("folder", root, tmp_path)
    assert source.classes == [] and source.splits()["train"].tolist() == [-1, -1]
    assert source.read("train", 0).extras == {"mask.png": (root / "masks/a.png").read_bytes()}
    mask = Image.open(io.BytesIO(source.read("train", 1).extras["mask.png"]))
    assert mask.format == "PNG" and np.unique(np.asarray(mask)).tolist() == [255]


def test_links_to_class_folders_are_followed_and_circles_end(tmp_path):
    lay_out(tmp_path / "elsewhere", ["cat/0.png"])
    root = lay_out(tmp_path / "root", ["dog/0.png"])
    (root / "cat").symlink_to(tmp_path / "elsewhere" / "cat")
    (root / "dog" / "circle").symlink_to(root)
    source = opened("folder", root, tmp_path)
    assert source.classes == ["cat", "dog"] and source.splits()["train"].tolist() == [0, 1]


def test_a_broken_link_and_an_empty_folder_are_named(tmp_path):
    root = write(tmp_path / "root", class_folders(["ant", "bee"]))
    (root / "dog").symlink_to("nowhere")
    (root / "cat").mkdir()
    (root / ".cache").mkdir()
    source = opened("folder", root, tmp_path)
    assert source.remarks == ["1 folder is empty: cat", "dog is a link to nothing: its images, if any, are missing"]
    assert dict(source.left_out) == {"broken link": 1}


def test_hard_links_in_a_tar_are_what_they_point_at(tmp_path):
    add_to_tar(tmp_path / "data.tar", {"cat/0.png": png(1)})
    with tarfile.open(tmp_path / "data.tar", "a") as tar:
        link = tarfile.TarInfo("dog/0.png")
        link.type, link.linkname = tarfile.LNKTYPE, "cat/0.png"
        tar.addfile(link)
    assert content(opened("folder", tmp_path / "data.tar", tmp_path)) == {"train": [("cat", png(1)), ("dog", png(1))]}


def test_bad_folders_end_in_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    lay_out(tmp_path / "mixed", [*CLASSES, "stray.png"])
    (tmp_path / "words.txt").write_text("words")
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards/train-000000.tar").write_bytes(b"")
    for root, words in [
        (tmp_path / "shards", "it holds 1 .tar; if they are WebDataset shards, use --source shards"),
        (tmp_path / "empty", r"No images found in .*empty.* \(it is empty\)"),
        (tmp_path / "mixed", r"1 image is next to class folders .* \(such as stray.png\)"),
        (tmp_path / "absent", "does not exist"),
        (tmp_path / "words.txt", "neither a folder nor one of"),
        (None, "needs --root"),
    ]:
        with pytest.raises(SslkitError, match=words) as caught:
            opened("folder", root, tmp_path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".zip"])
def test_truncated_archives_end_in_one_line(suffix, tmp_path):
    root, path = lay_out(tmp_path / "root", CLASSES), tmp_path / f"data{suffix}"
    (pack_zip if suffix == ".zip" else pack_tar)(root, path)
    whole = path.read_bytes()
    for size in (
        (len(whole) // 3, len(whole) // 2, len(whole) * 2 // 3) if suffix != ".tar" else (700, 1024, 2048, 4096)
    ):
        path.write_bytes(whole[:size])
        with pytest.raises(SslkitError, match=r"truncated.*again") as caught:
            opened("folder", path, tmp_path)
        assert "\n" not in str(caught.value)
    assert not list((tmp_path / "scratch").glob("*"))  # neither a copy nor a part of one


def test_a_damaged_header_does_not_shorten_a_tar_silently(tmp_path):
    add_to_tar(tmp_path / "data.tar", {f"cat/{i}.png": png(i) for i in range(3)})
    data = bytearray((tmp_path / "data.tar").read_bytes())
    data[2048] ^= 1  # the third header
    (tmp_path / "data.tar").write_bytes(data)
    with pytest.raises(SslkitError, match="truncated or not a tar"):
        opened("folder", tmp_path / "data.tar", tmp_path)


def test_fingerprints_follow_the_files(tmp_path):
    root = lay_out(tmp_path / "root", CLASSES)
    folder = registry.load(PACKAGE, "folder")
    seen = {folder(root).fingerprint()}
    (root / "cat/0.png").rename(root / "cat/2.png")
    seen.add(folder(root).fingerprint())
    (root / "cat/2.png").write_bytes(b"other")
    seen.add(folder(root).fingerprint())
    pack_tar(root, tmp_path / "data.tar")
    seen.add(folder(tmp_path / "data.tar").fingerprint())
    assert len(seen) == 4
    assert folder(tmp_path / "data.tar").fingerprint() in seen


def test_an_unpacked_copy_is_reused(tmp_path):
    pack_tar(lay_out(tmp_path / "root", CLASSES), tmp_path / "data.tar.gz")
    opened("folder", tmp_path / "data.tar.gz", tmp_path)
    (copy,) = (tmp_path / "scratch").iterdir()
    before = copy.stat().st_mtime_ns
    opened("folder", tmp_path / "data.tar.gz", tmp_path)
    assert copy.stat().st_mtime_ns == before
    assert copy.read_bytes() == gzip.decompress((tmp_path / "data.tar.gz").read_bytes())


def class_folders(names, label=0, count=2):
    return {f"{name}/{i}.jpg": tinted(label + at, i) for at, name in enumerate(names) for i in range(count)}


def under(top, files):
    return {f"{top}/{name}": data for name, data in files.items()}


@pytest.mark.parametrize(("train", "val"), [
    ("Training", "Testing"), ("TRAIN", "Val"), ("training_set", "test_set"), ("train2017", "val2017"),
    ("Train", "Validation"), ("train_images", "test-images"),
])  # fmt: skip
def test_splits_are_known_in_any_case(train, val, tmp_path):
    files = class_folders(["glioma", "none"], count=8)
    root = write(tmp_path / "root", under(train, files) | under(val, class_folders(["glioma", "none"], count=4)))
    source = taken(root, tmp_path, "folder")
    assert counts(source) == {"train": (16, 16), "val": (8, 8)}
    assert source.classes == ["glioma", "none"]
    assert source.took == f"class folders in {train}/ and {val}/"


def test_splits_below_each_class(tmp_path):
    files = {f"bottle/train/good/{i}.jpg": tinted(0, i) for i in range(3)}
    files |= {f"cable/train/good/{i}.jpg": tinted(1, i) for i in range(3)}
    files |= {"bottle/test/broken/0.jpg": tinted(0), "cable/test/bent/0.jpg": tinted(1)}
    source = taken(write(tmp_path / "root", files), tmp_path, "folder")
    assert counts(source) == {"train": (6, 6), "val": (2, 2)}
    assert source.classes == ["bottle", "cable"]


def test_what_is_in_no_split_is_said(tmp_path):
    files = class_folders(["a"])
    tops = {top: under(top, files) for top in ("Train", "valid", "test", "extra")}
    root = write(tmp_path / "root", {k: v for part in tops.values() for k, v in part.items()} | {"logo.png": png()})
    source = taken(root, tmp_path, "folder")
    assert counts(source) == {"train": (2, 2), "val": (2, 2)}
    assert any("top folder (1), extra (2), test (2)" in remark for remark in source.remarks)


@pytest.mark.parametrize(("names", "remarked"), [
    ([f"fold{i}/{c}" for i in range(2) for c in ("ant", "bee", "cat")], "fold0"),
    ([f"fold{i}/{c}" for i in range(5) for c in ("ant", "bee", "cat") if (i, c) != (3, "cat")], "fold0"),
    ([f"train/{s}/{c}" for s in ("one", "two") for c in ("ant", "bee")], "train/one"),
    ([f"{s}/train/{c}" for s in ("one", "two") for c in ("ant", "bee")], "one"),
    (["ant/images", "ant/young", "bee/images", "bee/old"], ""),
    (["ant/one", "ant/two", "bee"], ""),
    (["fold0/ant", "fold0/bee"], ""),
])  # fmt: skip
def test_subfolders_that_repeat_below_the_classes_may_be_the_classes(names, remarked, tmp_path):
    root = write(tmp_path / "root", {f"{name}/0.png": png() for name in names})
    remarks = [r for r in opened("folder", root, tmp_path).remarks if "hold the same subfolders" in r]
    assert len(remarks) == bool(remarked)
    if remarked:
        assert f"--source folder --root {root / remarked} for" in remarks[0]
        assert set(opened("folder", root / remarked, tmp_path).classes) >= {"ant", "bee"}


def test_a_test_that_takes_the_place_of_val_is_said(tmp_path):
    files = under("train", class_folders(["a"])) | under("test", class_folders(["a"]))
    root = write(tmp_path / "root", files)
    assert "val is the source's test" in taken(root, tmp_path, "folder").remarks
    write(root, under("val", class_folders(["a"])))
    assert "val is the source's test" not in taken(root, tmp_path, "folder").remarks


@pytest.mark.parametrize(("second", "words"), [("test", "val is the source's test"), ("val", "val is val and test")])
def test_a_test_of_a_table_that_takes_the_place_of_val_is_said(second, words, tmp_path):
    table = f"file,label,split\n0.png,a,train\n1.png,a,test\n2.png,a,{second}\n"
    root = write(tmp_path / "root", {f"{i}.png": png() for i in range(3)} | {"labels.csv": table})
    source = opened("folder", root, tmp_path)
    assert counts(source) == {"train": (1, 1), "val": (2, 2)}
    assert any(remark.startswith(words) for remark in source.remarks)


def linked_folder(root):
    (root / "val").symlink_to("train")


def linked_classes(root):
    (root / "val").mkdir()
    for name in ("ant", "bee"):
        (root / "val" / name).symlink_to(f"../train/{name}")


def linked_files(root):
    for path in sorted(root.glob("train/*/*")):
        link = root / "val" / path.relative_to(root / "train")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.hardlink_to(path)


@pytest.mark.parametrize("link", [linked_folder, linked_classes, linked_files])
def test_a_val_of_links_to_train_is_said(link, tmp_path):
    root = write(tmp_path / "root", under("train", class_folders(["ant", "bee"], count=12)))
    link(root)
    source = taken(root, tmp_path, "folder")
    assert counts(source) == {"train": (24, 24), "val": (24, 24)}
    assert any("24 of 24 images of val are images of train" in remark for remark in source.remarks)


HEIC = b"\0\0\0\x18ftypheic" + bytes(40)


def test_files_left_out_are_counted_by_kind(tmp_path):
    files = {f"phone/IMG_{i}.HEIC": HEIC for i in range(5)} | class_folders(["camera"], count=5)
    files |= {"camera/scan.dcm": b"x", "camera/volume.nii.gz": b"x", "camera/a.npy": b"x", "LICENSE": "words"}
    files |= {".DS_Store": b"x"}
    source = taken(write(tmp_path / "root", files), tmp_path, "folder")
    assert counts(source) == {"train": (5, 5)}
    assert dict(source.left_out) == {
        ".heic": 5, ".dcm": 1, ".nii.gz": 1, ".npy": 1, "without a suffix": 1, "hidden": 1
    }  # fmt: skip
    said = "\n".join(source.remarks)
    assert "phone holds no image that can be read (5 .heic)" in said
    assert "pip install 'sslkit[heic]'" in said
    assert "DICOM is not read" in said


@pytest.mark.parametrize(("name", "words"), [
    ("a/1.heic", r"it holds 1 \.heic; \.heic: pip install 'sslkit\[heic\]'"),
    ("a/1.jxl", r"it holds 1 \.jxl; \.jxl: pip install"),
    ("scan/1.DCM", r"it holds 1 \.dcm; \.dcm: DICOM is not read"),
])  # fmt: skip
def test_a_folder_of_files_that_are_not_read_says_what_it_holds(name, words, tmp_path):
    root = write(tmp_path / "root", {name: b"x"})
    with pytest.raises(SslkitError, match=words):
        opened("folder", root, tmp_path)


def test_avif_is_read(tmp_path):
    source = taken(write(tmp_path / "root", {"a/0.avif": tinted(0, kind="AVIF", side=64)}), tmp_path, "folder")
    assert counts(source) == {"train": (1, 1)}
