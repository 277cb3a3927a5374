"""WebDataset tars, local and remote."""

import json
import pickle
import tarfile

import pytest
from source_files import add_to_tar, content, counts, opened, png, taken, tar_bytes, tinted, write

from sslkit import registry
from sslkit.data.shards import open_split
from sslkit.data.sources.base import PACKAGE
from sslkit.errors import SslkitError, UsageError


def tars(folder):
    folder.mkdir()
    for name, rows in {"train-000000": (0, 1), "train-000001": (2, 3), "val-000000": (4,)}.items():
        files = {}
        for i in rows:
            files |= {f"dir.x/{i:03d}.png": png(i), f"dir.x/{i:03d}.json": b'{"note": %d}' % i}
            files |= {f"dir.x/{i:03d}.cls": b"%d" % i} if i != 3 else {}
            files |= {f"dir.x/{i:03d}.mask.png": png(40)} if i == 1 else {}
        add_to_tar(folder / f"{name}.tar", files)
    return folder


@pytest.mark.parametrize("root", ["{}", "{}/*.tar", "{}/{{train-{{000000..000001}},val-000000}}.tar"])
def test_webdataset_tars(root, tmp_path):
    source = opened("shards", root.format(tars(tmp_path / "tars")), tmp_path)
    assert {s: labels.tolist() for s, labels in source.splits().items()} == {"train": [0, 1, 2, -1], "val": [4]}
    assert source.classes == ["0", "1", "2", "3", "4"]
    sample = pickle.loads(pickle.dumps(source)).read("train", 1)
    assert (sample.image, sample.extension, sample.label) == (png(1), "png", 1)
    assert sample.extras == {"mask.png": png(40)} and sample.info == {"note": 1} and sample.key == "dir.x/001"
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
        (tmp_path / "none", "no tars in"),
        (tmp_path / "absent.tar", "does not exist"),
        (None, "needs --root"),
    ]:
        with pytest.raises(SslkitError, match=words) as caught:
            opened("shards", root, tmp_path)
        assert "\n" not in str(caught.value)


def one_tar(tmp_path, members, name="train-000000"):
    return write(tmp_path / "root", {f"{name}.tar": tar_bytes(members)})


def test_keys_with_dots_stay_whole(tmp_path):
    members = {}
    for i in range(10):
        members |= {f"img_{i:03d}.jpg": tinted(i % 2, i), f"img_{i:03d}.cls": b"%d" % (i % 2)}
        members |= {f"scan_{i}.5x.jpg": tinted(i % 2, 20 + i), f"scan_{i}.5x.cls": b"%d" % (i % 2)}
    source = taken(one_tar(tmp_path, members), tmp_path, "shards")
    assert counts(source) == {"train": (20, 20)}
    assert source.remarks == ["10 keys hold a dot: a key ends where the longest known file ending begins"]
    assert "scan_3.5x" in {source.read("train", i).key for i in range(20)}


@pytest.mark.parametrize(("members", "extras"), [
    (["v1.2/a.b.c.jpg", "v1.2/a.b.c.cls"], set()),
    (["a.jpg", "a.cls", "a.left.png"], {"left.png"}),
    (["a.jpg", "a.cls", "a.seg.png", "a.depth.png"], {"seg.png", "depth.png"}),
    (["a.JPEG", "a.CLS", "a.txt"], {"txt"}),
])  # fmt: skip
def test_members_of_one_sample(members, extras, tmp_path):
    content = {name: b"0" if name.lower().endswith("cls") else tinted(0) for name in members}
    source = taken(one_tar(tmp_path, content), tmp_path, "shards")
    assert counts(source) == {"train": (1, 1)}
    assert set(source.read("train", 0).extras) == extras


def test_samples_without_an_image_are_counted(tmp_path):
    members = {"a.jpg": tinted(0), "a.cls": b"0", "b.cls": b"1", "c.jp2": b"x", "c.cls": b"1"}
    source = taken(one_tar(tmp_path, members), tmp_path, "shards")
    assert counts(source) == {"train": (1, 1)}
    assert source.remarks == ["2 samples of train-000000.tar have no image that can be read"]
    assert dict(source.left_out) == {".cls": 2, ".jp2": 1}


def with_json(tmp_path, facts):
    members = {}
    for i in range(12):
        members |= {f"{i:05d}.jpeg": tinted(i % 3, i), f"{i:05d}.json": json.dumps(facts(i)).encode()}
    return one_tar(tmp_path, members)


@pytest.mark.parametrize(("facts", "key"), [
    (lambda i: {"label": i % 3, "class_name": ("ant", "bee", "cat")[i % 3]}, "label"),
    (lambda i: {"target": ("ant", "bee", "cat")[i % 3], "width": 40}, "target"),
    (lambda i: {"class_name": ("ant", "bee", "cat")[i % 3]}, "class_name"),
])  # fmt: skip
def test_labels_and_names_from_json(facts, key, tmp_path):
    source = taken(with_json(tmp_path, facts), tmp_path, "shards")
    assert counts(source) == {"train": (12, 12)}
    assert source.classes == ["ant", "bee", "cat"]
    assert source.remarks == [f"labels are '{key}' of the json members"]


def test_another_key_of_the_json(tmp_path):
    root = with_json(tmp_path, lambda i: {"label": 0, "meta": {"animal": i % 3}})
    source = registry.load(PACKAGE, "shards")(root)
    source.label_key = "meta.animal"
    source.open(tmp_path)
    assert source.splits()["train"].tolist() == [i % 3 for i in range(12)]
    source.label_key = "species"
    with pytest.raises(UsageError, match="no json member has it; they hold label, meta"):
        source.open(tmp_path)


def test_names_in_cls(tmp_path):
    members = {}
    for i in range(6):
        members |= {f"{i}.png": tinted(i % 3, i, "PNG"), f"{i}.cls": (b"ant\n", b"bee\n", b"cat\n")[i % 3]}
    source = taken(one_tar(tmp_path, members), tmp_path, "shards")
    assert counts(source) == {"train": (6, 6)}
    assert source.classes == ["ant", "bee", "cat"]


def test_splits_in_folders_and_in_any_case(tmp_path):
    tar = tar_bytes({"0.jpg": tinted(0), "0.cls": b"0"})
    root = write(tmp_path / "root", {f"{name}/0000.tar": tar for name in ("Train", "VAL", "test")})
    source = taken(root, tmp_path, "shards")
    assert counts(source) == {"train": (1, 1), "val": (1, 1)}
    assert source.remarks == ["test (1 shards) is not used, as there is a val"]
    assert dict(source.left_out) == {".tar": 1}


@pytest.mark.parametrize(("member", "held_out", "remark"), [
    ("cls", {"val": (1, 1)}, "val is the source's test"),
    ("txt", {}, "test is not used: none of its 1 images has a label"),
])  # fmt: skip
def test_a_test_is_val_if_it_has_labels(member, held_out, remark, tmp_path):
    train, test = (tar_bytes({"0.jpg": tinted(0), f"0.{suffix}": b"0"}) for suffix in ("cls", member))
    root = write(tmp_path / "root", {"train/0.tar": train, "test/0.tar": test})
    source = taken(root, tmp_path, "shards")
    assert counts(source) == {"train": (1, 1)} | held_out
    assert remark in source.remarks


@pytest.mark.parametrize(("labels", "words"), [
    ([b"0", b"100000000"], "the label 100000000; classes are numbered from 0 to 999999"),
    ([b"0", b"9" * 30], "the label 9{30}; classes are numbered"),
])  # fmt: skip
def test_a_label_beyond_reason_is_refused_with_its_place(labels, words, tmp_path):
    members = {f"{i}.png": png(i) for i in range(2)} | {f"{i}.cls": label for i, label in enumerate(labels)}
    root = one_tar(tmp_path, members)
    with pytest.raises(SslkitError, match=f"train-000000.tar#1 has {words}"):
        opened("shards", root, tmp_path)


def test_labels_in_json_are_bounded_too(tmp_path):
    """Also where each number has a name, of which a list would be made."""
    names = ("ant", "bee")
    root = with_json(tmp_path, lambda i: {"label": 10**9 * (i % 2), "class_name": names[i % 2]})
    with pytest.raises(SslkitError, match="#00001 has the label 1000000000; classes are numbered"):
        opened("shards", root, tmp_path)


def test_negative_labels_and_damaged_json_are_said(tmp_path):
    members = {f"{i}.png": png(i) for i in range(3)} | {"0.cls": b"1", "1.cls": b"-5", "2.cls": b"-1"}
    source = opened("shards", one_tar(tmp_path, members), tmp_path)
    assert source.splits()["train"].tolist() == [1, -1, -1]
    assert source.remarks == ["2 images have a negative label, which counts as none"]
    for path in (tmp_path / "root").iterdir():
        path.unlink()
    members = {f"{i}.png": png(i) for i in range(3)} | {
        "0.json": b'{"label": 1}',
        "1.json": b"{",
        "2.json": b"[" * 9999,
    }
    source = opened("shards", one_tar(tmp_path, members), tmp_path)
    assert source.splits()["train"].tolist() == [1, -1, -1]
    assert "2 json members are damaged; their images have no label" in source.remarks


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "5", '{"classes": 5}', '{"classes": [1, 2]}', '{"classes": ["one"]}', "\xff"]
)
def test_a_foreign_manifest_is_said_not_to_be_used(text, tmp_path):
    root = one_tar(tmp_path, {"0.png": png(0), "0.cls": b"0", "1.png": png(1), "1.cls": b"1"})
    (root / "manifest.json").write_bytes(text.encode("latin-1"))
    source = opened("shards", root, tmp_path)
    assert source.classes == ["0", "1"]
    assert f"{root / 'manifest.json'} is not used" in source.remarks[0]


def test_members_with_odd_endings_are_found_again_in_the_shards(tmp_path, sslkit):
    """Long and non-ASCII endings have a PAX header in front; those that webdataset does not write are counted."""
    long = "x" * 120
    endings = {long: b"long", "\u30cd\u30b3": b"cat", "ann.json2": b"plain", "__key__": b"a", "_meta": b"b", "": b"c"}
    members = {"0.png": png(0), "0.cls": b"0", "0.webp": b"other", "1.png": png(1), "1.cls": b"1"}
    members |= {f"0.{ending}" if ending else "0": data for ending, data in endings.items()}
    root = one_tar(tmp_path, members)
    code, out, err = sslkit("prepare", tmp_path / "run", "--source", "shards", "--root", root, "--workers", 0)
    assert code == 0, err
    assert "1 .__key__" in out
    assert "1 ._meta" in out
    assert "1 .webp" in out
    split = open_split(tmp_path / "run" / "data", "train")
    first = split.labels.tolist().index(0)
    for ending in (long, "\u30cd\u30b3", "ann.json2"):
        assert split.member(first, ending) == endings[ending]
    assert split.image_bytes(first) == png(0)
    assert split.image_bytes(1 - first) == png(1)
    with tarfile.open(tmp_path / "run" / "data" / "train-000000.tar") as tar:
        names = [member.name.partition(".")[2] for member in tar]
    assert sorted(names) == sorted([*(long, "\u30cd\u30b3", "ann.json2"), *("png", "cls", "json") * 2])
