"""WebDataset tars, local and remote."""

import pickle

import pytest
from source_files import add_to_tar, content, opened, png

from sslkit.errors import SslkitError


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
        (tmp_path / "none", "no tars in"),
        (tmp_path / "absent.tar", "does not exist"),
        (None, "needs --root"),
    ]:
        with pytest.raises(SslkitError, match=words) as caught:
            opened("shards", root, tmp_path)
        assert "\n" not in str(caught.value)
