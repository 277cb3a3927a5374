import gzip
import io
import pickle
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from sslkit import registry
from sslkit.data import images
from sslkit.data.sources.base import PACKAGE
from sslkit.errors import SslkitError, UsageError


def png(value=0, side=4):
    return images.encode_png(np.full((side, side, 3), value, np.uint8))


def opened(name, root, tmp_path, seed=0):
    source = registry.load(PACKAGE, name)(root, seed)
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    source.open(scratch)
    return source


def lay_out(root, files):
    for i, file in enumerate(files):
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(i) if path.suffix != ".txt" else b"words")
    return root


def add_to_tar(path, files, mode="w", **header):
    with tarfile.open(path, mode) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def content(source):
    """Split -> list of (class name or None, image bytes)."""
    return {
        split: [
            (source.classes[label] if label >= 0 else None, source.read(split, i).image)
            for i, label in enumerate(labels.tolist())
        ]
        for split, labels in source.splits().items()
    }


@pytest.mark.parametrize("name", ["digits", "shapes"])
def test_sources_that_need_nothing_keep_the_contract(name, tmp_path):
    source = opened(name, None, tmp_path)
    splits = source.splits()
    assert set(splits) == {"train", "val"}
    for split, labels in splits.items():
        assert labels.dtype == np.int64 and set(labels.tolist()) == set(range(len(source.classes)))
        for i in (0, 1, len(labels) - 1):
            sample = source.read(split, i)
            assert sample.label == labels[i]
            assert images.extension(sample.image) == sample.extension
            assert images.decode(sample.image).shape[0] == 3
            again = pickle.loads(pickle.dumps(source)).read(split, i)
            assert again == sample
    assert source.fingerprint() == registry.load(PACKAGE, name)(None, 0).fingerprint()


def test_digits_are_the_digits(tmp_path):
    from sklearn.datasets import load_digits

    source, digits = opened("digits", None, tmp_path), load_digits()
    labels = np.concatenate(list(source.splits().values()))
    np.testing.assert_array_equal(labels, digits.target)
    first = images.decode(source.read("train", 3).image)[0].float()
    assert first.shape == (32, 32)
    small = first.reshape(8, 4, 8, 4).mean((1, 3)).numpy()
    assert np.corrcoef(small.ravel(), digits.images[3].ravel())[0, 1] > 0.95
    assert source.read("val", 0).key == "1437"


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
        (tmp_path / "shards", "1 .tar file is there; for WebDataset shards use --source shards"),
        (tmp_path / "empty", r"No images found in .*empty.* \(looked for "),
        (tmp_path / "mixed", r"1 images are next to class folders .* \(such as stray.png\)"),
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


def cifar_batches(root, monkeypatch):
    """Files in CIFAR-10's official layout, with the checksums that torchvision compares."""
    import hashlib

    import torchvision.datasets

    kind = torchvision.datasets.CIFAR10
    folder = root / kind.base_folder
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (12, 3072), dtype=np.uint8)

    def write(name, value):
        (folder / name).write_bytes(pickle.dumps(value))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    train = [write(f"data_batch_{i}", {"data": pixels[4 * i : 4 * i + 4], "labels": [3, 1, 0, 9]}) for i in range(2)]
    test = [write("test_batch", {"data": pixels[8:], "labels": [5, 5, 5, 5]})]
    names = [f"kind {i}" for i in range(10)]
    meta = {"filename": "batches.meta", "key": "label_names", "md5": write("batches.meta", {"label_names": names})[1]}
    for attribute, value in {"train_list": train, "test_list": test, "meta": meta}.items():
        monkeypatch.setattr(kind, attribute, value)
    return pixels


@pytest.mark.parametrize("inside", [False, True])
def test_cifar10_from_a_folder(inside, tmp_path, monkeypatch):
    pixels = cifar_batches(tmp_path / "root", monkeypatch)
    root = tmp_path / "root" / "cifar-10-batches-py" if inside else tmp_path / "root"
    source = opened("cifar10", root, tmp_path)
    assert source.classes[3] == "kind 3"
    assert source.splits()["train"].tolist() == [3, 1, 0, 9] * 2 and source.splits()["val"].tolist() == [5] * 4
    sample = pickle.loads(pickle.dumps(source)).read("val", 1)
    np.testing.assert_array_equal(images.decode(sample.image).numpy(), pixels[9].reshape(3, 32, 32))


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_without_a_network_says_what_to_do(name, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no route")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(SslkitError, match=r"cannot download CIFAR.*no route.*--root"):
        opened(name, tmp_path / "nowhere", tmp_path)


def test_cifar_points_at_the_folder_source_for_an_archive(tmp_path):
    (tmp_path / "cifar10.tar.gz").write_bytes(b"")
    with pytest.raises(UsageError, match="use --source folder --root"):
        opened("cifar10", tmp_path / "cifar10.tar.gz", tmp_path)


def imagenet32_batches(root, as_npz):
    root.mkdir()
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (9, 3072), dtype=np.uint8)
    # Batch 10 comes after batch 2.
    for name, rows in {"train_data_batch_1": [0, 1], "train_data_batch_2": [2, 3], "train_data_batch_10": [4, 5, 6],
                       "val_data": [7, 8]}.items():  # fmt: skip
        batch = {"data": pixels[rows], "labels": [i * 100 + 1 for i in rows], "mean": pixels.mean(0)}
        if as_npz:
            np.savez(root / f"{name}.npz", **{key: np.asarray(value) for key, value in batch.items()})
        else:
            (root / name).write_bytes(pickle.dumps(batch, protocol=2))
    return pixels


@pytest.mark.parametrize("as_npz", [False, True])
def test_imagenet32(as_npz, tmp_path):
    pixels = imagenet32_batches(tmp_path / "root", as_npz)
    (tmp_path / "root" / "map_clsloc.txt").write_text("n02119789 1 kit_fox\nn02100735 2 English_setter\n")
    source = opened("imagenet32", tmp_path / "root", tmp_path)
    assert source.classes[:3] == ["n02119789", "n02100735", "3"] and len(source.classes) == 1000
    assert source.splits()["train"].tolist() == [0, 100, 200, 300, 400, 500, 600]
    assert source.splits()["val"].tolist() == [700, 800]
    sent = pickle.loads(pickle.dumps(source))
    for split, index, row in [("train", 0, 0), ("train", 6, 6), ("val", 1, 8)]:
        np.testing.assert_array_equal(
            images.decode(sent.read(split, index).image).numpy(), pixels[row].reshape(3, 32, 32)
        )
    assert source.fingerprint() != registry.load(PACKAGE, "imagenet32")(tmp_path / "root").fingerprint() + "x"


class Harmful:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (open, (self.marker, "w"))


def test_a_pickle_of_imagenet32_never_executes_code(tmp_path):
    imagenet32_batches(tmp_path / "root", as_npz=False)
    marker = tmp_path / "was here"
    (tmp_path / "root" / "val_data").write_bytes(pickle.dumps({"data": Harmful(str(marker)), "labels": [1]}))
    with pytest.raises(SslkitError, match="not an official file"):
        opened("imagenet32", tmp_path / "root", tmp_path)
    assert not marker.exists()


def test_imagenet32_refuses_what_is_not_official(tmp_path):
    with pytest.raises(SslkitError, match="no train_data_batch_"):
        opened("imagenet32", tmp_path, tmp_path)
    root = tmp_path / "root"
    for batch in (
        {"data": np.zeros((2, 3072), np.uint8), "labels": [0, 1]},
        {"labels": [1]},
        {"data": 3, "labels": [1]},
    ):
        root.mkdir(exist_ok=True)
        (root / "train_data_batch_1").write_bytes(pickle.dumps(batch))
        with pytest.raises(SslkitError, match="train_data_batch_1"):
            opened("imagenet32", root, tmp_path)


def tars(folder):
    folder.mkdir()
    for name, rows in {"train-000000": (0, 1), "train-000001": (2, 3), "val-000000": (4,)}.items():
        files = {}
        for i in rows:
            files |= {f"dir.x/{i:03d}.png": png(i), f"dir.x/{i:03d}.json": b'{"note": %d}' % i}
            files |= {f"dir.x/{i:03d}.cls": b"%d" % i} if i != 3 else {}
            files |= {f"dir.x/{i:03d}.mask.png": b"mask"} if i == 1 else {}
        add_to_tar(folder / f"{name}.tar", files)
    return folder


@pytest.mark.parametrize("root", ["{}", "{}/*.tar", "{}/{{train-{{000000..000001}},val-000000}}.tar"])
def test_webdataset_tars(root, tmp_path):
    source = opened("shards", root.format(tars(tmp_path / "tars")), tmp_path)
    assert {s: labels.tolist() for s, labels in source.splits().items()} == {"train": [0, 1, 2, -1], "val": [4]}
    assert source.classes == ["0", "1", "2", "3", "4"]
    sample = pickle.loads(pickle.dumps(source)).read("train", 1)
    assert (sample.image, sample.extension, sample.label) == (png(1), "png", 1)
    assert sample.extras == {"mask.png": b"mask"} and sample.info == {"note": 1} and sample.key == "dir.x/001"
    assert source.name("train", 1).endswith("train-000000.tar#dir.x/001")


def test_remote_tars_are_fetched_once(tmp_path):
    folder = tars(tmp_path / "tars")
    url = f"pipe:cat {folder}/train-{{000000..000001}}.tar"
    source = opened("shards", url, tmp_path)
    assert source.splits()["train"].tolist() == [0, 1, 2, -1]
    for path in folder.iterdir():
        path.unlink()
    assert content(opened("shards", url, tmp_path))["train"][2] == ("2", png(2))
    with pytest.raises(SslkitError, match=r"cannot fetch pipe:cat"):
        opened("shards", "pipe:cat /nowhere/train-000000.tar", tmp_path)


def test_bad_tars_end_in_one_line(tmp_path):
    folder = tars(tmp_path / "tars")
    add_to_tar(tmp_path / "words.tar", {"a.txt": b"words"})
    add_to_tar(tmp_path / "label.tar", {"a.png": png(), "a.cls": b"cat"})
    whole = (folder / "train-000001.tar").read_bytes()
    (folder / "train-000001.tar").write_bytes(whole[:1300])
    (tmp_path / "none").mkdir()
    for root, words in [
        (folder, "truncated"),
        (tmp_path / "words.tar", "no samples with an image"),
        (tmp_path / "label.tar", r"a.cls holds b'cat', not a class number"),
        (tmp_path / "none", "no tars in"),
        (tmp_path / "absent.tar", "does not exist"),
        (None, "needs --root"),
    ]:
        with pytest.raises(SslkitError, match=words) as caught:
            opened("shards", root, tmp_path)
        assert "\n" not in str(caught.value)


def test_an_unpacked_copy_is_reused(tmp_path):
    pack_tar(lay_out(tmp_path / "root", CLASSES), tmp_path / "data.tar.gz")
    opened("folder", tmp_path / "data.tar.gz", tmp_path)
    (copy,) = (tmp_path / "scratch").iterdir()
    before = copy.stat().st_mtime_ns
    opened("folder", tmp_path / "data.tar.gz", tmp_path)
    assert copy.stat().st_mtime_ns == before
    assert copy.read_bytes() == gzip.decompress((tmp_path / "data.tar.gz").read_bytes())
