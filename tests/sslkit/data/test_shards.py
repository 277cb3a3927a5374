import gc
import io
import json
import os
import pickle
import re
import sys
import threading
import tracemalloc

import numpy as np
import pytest
import torch
import webdataset
from PIL import Image
from webdataset.writer import TarWriter

from sslkit.artifacts import DamagedFile
from sslkit.data import images, shard_index, shards
from sslkit.data.shard_index import HashedTar, index_path, is_complete, read_index
from sslkit.data.shards import Record, open_split, write_shard
from sslkit.errors import SslkitError
from sslkit.files import write_json

RNG = np.random.default_rng(0)
PICTURES = [torch.from_numpy(RNG.integers(0, 256, (3, 9, 5 + i), dtype=np.uint8)) for i in range(7)]


def record(i):
    members = {"png": images.encode_png(PICTURES[i]), "json": json.dumps({"i": i}).encode()}
    if i % 2:
        members["mask.png"] = b"mask %d" % i * (i * 100)
    return Record(f"train-{i:08d}", -1 if i == 3 else i, members)


def prepared(folder, parts=((0, 1, 2), (), (3, 4, 5, 6))):
    files = []
    for path, part in zip(shards.shard_paths(folder, "train", len(parts)), parts, strict=True):
        write_shard(path, (record(i) for i in part), [])
        files.append({"file": path.name})
    write_json(folder / "manifest.json", {"classes": list("abcdefg"), "splits": {"train": {"shards": files}}})
    return open_split(folder, "train")


def test_every_member_comes_back(tmp_path):
    split = prepared(tmp_path)
    assert len(split) == 7 and split.classes == list("abcdefg") and split.name == "train"
    assert split.labels.tolist() == [0, 1, 2, -1, 4, 5, 6] and split.labels.dtype == np.int64
    assert [split.key(i) for i in range(7)] == [f"train-{i:08d}" for i in range(7)]
    for i in reversed(range(7)):
        assert torch.equal(split.image(i), PICTURES[i])
        assert split.image_bytes(i) == record(i).members["png"]
        assert split.member(i, "mask.png") == record(i).members.get("mask.png")
        assert json.loads(split.member(i, "json")) == {"i": i}
        assert split.member(i, "nothing") is None
    for outside in (7, -1):
        with pytest.raises(IndexError):
            split.image_bytes(outside)


# webdataset leaves the files it reads to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_the_tars(tmp_path):
    prepared(tmp_path)
    urls = [str(tmp_path / "train-000000.tar"), str(tmp_path / "train-000002.tar")]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False))
    gc.collect()
    assert [s["__key__"] for s in samples] == [f"train-{i:08d}" for i in range(7)]
    for i, sample in enumerate(samples):
        expected = dict(record(i).members) | ({} if i == 3 else {"cls": str(i).encode()})
        assert {k: v for k, v in sample.items() if not k.startswith("__")} == expected


def test_bytes_depend_on_the_samples_alone(tmp_path, monkeypatch):
    prepared(tmp_path / "one")
    monkeypatch.setattr("time.time", lambda: 1e9)
    prepared(tmp_path / "two")
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "two").iterdir())
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize("ending", ["txt", "x" * 91, "x" * 92, "\u30cd\u30b3", "ca\udce9"])
@pytest.mark.parametrize("size", [0, 1, 511, 512, 9000])
def test_a_tar_has_the_bytes_that_webdataset_would_write(tmp_path, ending, size):
    content = RNG.bytes(size)
    sample = {"__key__": "00000001", "jpg": PICTURES[0].numpy().tobytes(), ending: content}
    expected = io.BytesIO()
    with TarWriter(expected, user="root", group="root", mode=0o644, encoder=False, mtime=0) as tar:
        tar.write(sample)
    written = io.BytesIO()
    tar = HashedTar(written)
    places = {name: tar.add(f"00000001.{name}", sample[name]) for name in sorted(("jpg", ending))}
    tar.end()
    assert written.getvalue() == expected.getvalue()
    assert written.getvalue()[places[ending] :].startswith(content)
    assert tar.bytes == len(expected.getvalue())


def test_the_header_of_a_member_of_any_size_is_that_of_tarfile():
    for size in (8**11 - 1, 8**11, 1 << 40):
        assert shard_index._header("a.jpg", size) == shard_index._tarfile_header("a.jpg", size)


def test_a_split_can_be_sent_to_another_process(tmp_path):
    split = prepared(tmp_path)
    split.image(0), split.member(0, "json")
    sent = pickle.dumps(split)
    assert len(sent) < 3000  # no image, no open file
    assert torch.equal(pickle.loads(sent).image(5), PICTURES[5])


def test_opening_many_shards_takes_little_memory_for_each_sample(tmp_path):
    """Less than 2 GB for 14 million samples: of an index only what every sample needs stays."""
    many = (Record(f"{i:08d}", i, {"png": b"", "json": b"", "mask.png": b""}) for i in range(1000))
    write_shard(tmp_path / "train-000000.tar", many, [])
    files = [{"file": "train-000000.tar"}] * 20
    write_json(tmp_path / "manifest.json", {"classes": ["a"], "splits": {"train": {"shards": files}}})
    tracemalloc.start()
    split = open_split(tmp_path, "train")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(split) == 20_000
    assert peak / len(split) < 130


def test_few_files_stay_open(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "OPEN_FILES", 2)
    split = prepared(tmp_path, [(i,) for i in range(7)])
    for i in (0, 1, 2, 3, 4, 5, 6, 0, 3):
        assert torch.equal(split.image(i), PICTURES[i])
        split.member(i, "json")
        assert len(split._handles) <= 2 and len(split._members) <= 2


def test_a_file_stays_open_while_it_is_read_whoever_lets_go_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "OPEN_FILES", 1)
    split, pread, inside = prepared(tmp_path, [(i,) for i in range(7)]), os.pread, []

    def interrupted(descriptor, size, offset):
        if not inside:  # what another thread may do between the look-up of a descriptor and the read
            inside.append(True)
            assert torch.equal(split.image(5), PICTURES[5])
            inside.clear()
        return pread(descriptor, size, offset)

    monkeypatch.setattr(shards.os, "pread", interrupted)
    for i in (0, 1, 2):
        assert torch.equal(split.image(i), PICTURES[i])


def test_threads_share_a_split_of_more_shards_than_files_stay_open(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "OPEN_FILES", 2)
    split, failed, start = prepared(tmp_path, [(i,) for i in range(7)]), [], threading.Barrier(6)
    expected = [record(i).members for i in range(7)]

    def read(number):
        start.wait()
        try:
            for i in np.random.default_rng(number).integers(0, 7, 60).tolist():
                assert split.image_bytes(i) == expected[i]["png"]
                assert split.member(i, "json") == expected[i]["json"]
        except BaseException as error:
            failed.append(error)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=read, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert not failed and len(split._handles) <= 2 and len(split._members) <= 2


def test_which_samples_have_a_member(tmp_path):
    split = prepared(tmp_path)
    assert split.having("mask.png").tolist() == [1, 3, 5] and split.having("cls").tolist() == [0, 1, 2, 4, 5, 6]
    assert split.having("nothing").tolist() == []


def stale_by_truncation(shard):
    shard.write_bytes(shard.read_bytes()[:-100])


def stale_by_growth(shard):
    shard.write_bytes(shard.read_bytes() + bytes(10240))


@pytest.mark.parametrize("damage", [stale_by_truncation, stale_by_growth])
def test_a_shard_of_another_size_makes_its_index_stale(tmp_path, damage):
    prepared(tmp_path)
    damage(tmp_path / "train-000002.tar")
    assert not is_complete(tmp_path / "train-000002.tar")
    with pytest.raises(SslkitError, match=r"train-000002.tar is stale .* `sslkit prepare --force`"):
        open_split(tmp_path, "train")


def test_a_shard_replaced_by_one_of_equal_size_is_noticed_at_reading(tmp_path):
    split = prepared(tmp_path)
    shard = tmp_path / "train-000000.tar"
    content = shard.read_bytes()
    shard.write_bytes(content[5120:] + content[:5120])
    with pytest.raises(SslkitError, match="stale"):
        split.image_bytes(1)


def test_damaged_and_missing_indexes(tmp_path):
    prepared(tmp_path)
    index = index_path(tmp_path / "train-000000.tar")
    assert index.name == "train-000000.idx.npz"
    index.write_bytes(index.read_bytes()[:50])
    with pytest.raises(SslkitError, match="is damaged"):
        open_split(tmp_path, "train")
    index.unlink()
    with pytest.raises(SslkitError, match=r"train-000000.idx.npz is missing"):
        open_split(tmp_path, "train")


@pytest.mark.parametrize("name", ["png", "json", "mask.png"])
def test_a_flipped_bit_of_a_member_is_found_when_it_is_read(tmp_path, name):
    split = prepared(tmp_path)
    tar = tmp_path / "train-000002.tar"
    data = bytearray(tar.read_bytes())
    data[data.index(record(5).members[name]) + len(record(5).members[name]) // 2] ^= 4
    tar.write_bytes(data)
    with pytest.raises(
        DamagedFile, match=rf"train-000002.tar is damaged: the checksum of train-00000005.{name} is wrong"
    ):
        split.member(5, name)
    assert split.member(4, name) == record(4).members.get(name)
    assert not is_complete(tar)  # a resumed prepare writes it again


def test_an_index_without_checksums_is_read(tmp_path):
    """Those of earlier versions."""
    prepared(tmp_path)
    index = index_path(tmp_path / "train-000000.tar")
    with np.load(index) as arrays:
        older = {key: value for key, value in arrays.items() if key != "crcs"}
    np.savez_compressed(index, **older)
    assert open_split(tmp_path, "train").image_bytes(1) == record(1).members["png"]


def test_png_is_checked_for_damage_once_where_its_checksum_is_known(tmp_path, monkeypatch):
    """Decoding would end the process at a damaged PNG; a checksum tells that it was good when it was packed."""
    split, looked_at = prepared(tmp_path), []
    whole = images.png.checked
    monkeypatch.setattr(images.png, "checked", lambda data: looked_at.append(len(data)) or whole(data))
    assert torch.equal(split.image(0), PICTURES[0])
    assert looked_at == []
    for shard in shards.shard_paths(tmp_path, "train", 3):
        with np.load(index_path(shard)) as arrays:
            older = {key: value for key, value in arrays.items() if key != "crcs"}
        np.savez(index_path(shard), **older)
    assert torch.equal(open_split(tmp_path, "train").image(0), PICTURES[0])
    assert looked_at == [len(record(0).members["png"])]


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("labels", np.zeros(1, np.int64), "column labels is int64"),
        ("offsets", np.zeros((3, 2)), "column offsets is float64"),
        ("image", np.full(3, 99), "column image names no member"),
        ("facts", np.frombuffer(b"[]", np.uint8), "it is a list where a mapping is expected"),
        ("facts", np.frombuffer(b'{"bytes": 3}', np.uint8), "'sha256' is missing"),
        ("facts", np.frombuffer(b"{", np.uint8), "Expecting property name"),
    ],
)
def test_an_index_that_contradicts_itself_is_damaged(tmp_path, column, value, words):
    prepared(tmp_path)
    index = index_path(tmp_path / "train-000000.tar")
    with np.load(index) as arrays:
        np.savez_compressed(index, **{**dict(arrays), column: value})
    with pytest.raises(DamagedFile) as caught:
        open_split(tmp_path, "train")
    assert words in caught.value.why


def test_what_is_not_there_says_what_to_do(tmp_path):
    with pytest.raises(SslkitError, match=f"run `sslkit prepare {re.escape(str(tmp_path))}` first"):
        open_split(tmp_path / "data", "train")
    prepared(tmp_path)
    with pytest.raises(SslkitError, match=r"no split 'val' \(it has: train\)"):
        open_split(tmp_path, "val")


def test_a_failure_leaves_neither_shard_nor_index(tmp_path):
    def records():
        yield record(0)
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        write_shard(tmp_path / "train-000000.tar", records(), [])
    assert list(tmp_path.iterdir()) == []


def test_the_index_knows_the_tar_and_what_was_left_out(tmp_path):
    from sslkit.files import sha256

    path = tmp_path / "train-000000.tar"
    skipped = []

    def records():
        yield record(0)
        skipped.append({"image": "x"})

    write_shard(path, records(), skipped)
    facts = read_index(path).facts
    assert facts == {"bytes": path.stat().st_size, "sha256": sha256(path), "skipped": [{"image": "x"}]}


def encoded(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def test_masks_in_shards_are_read_whatever_their_white_is(tmp_path):
    rows, columns = np.mgrid[:48, :40]
    disc = ((rows - 20) ** 2 + (columns - 15) ** 2 < 81).astype(np.uint8) * 255
    palette = Image.fromarray(disc // 255).convert("P")
    palette.putpalette([0, 0, 0, 0, 128, 0])  # the object is green
    stored = {
        "black and white": Image.fromarray(disc),
        "0 and 1": Image.fromarray(disc // 255),
        "one bit": Image.fromarray(disc > 0),
        "palette": palette,
        "empty": Image.fromarray(np.zeros_like(disc)),
    }
    photo = images.encode_png(np.zeros((48, 40, 3), np.uint8))
    records = [Record(f"{i}", 0, {"png": photo, "mask.png": encoded(mask)}) for i, mask in enumerate(stored.values())]
    write_shard(tmp_path / "train-000000.tar", [*records, Record("none", 0, {"png": photo})], [])
    split = shards.Split(tmp_path, "train", ["thing"], ["train-000000.tar"])
    for i, name in enumerate(stored):
        mask = split.object_mask(i)
        assert mask is not None
        assert mask.dtype == torch.uint8
        assert np.array_equal(mask.numpy(), np.zeros_like(disc) if name == "empty" else disc), name
    assert split.object_mask(len(stored)) is None


def test_an_image_or_a_mask_that_cannot_be_decoded_is_named(tmp_path):
    """Also through the loader's workers, which would otherwise die of a PNG or show a traceback."""
    broken = images.encode_png(PICTURES[0])[:-30]
    members = {"png": broken, "mask.png": broken}
    write_shard(tmp_path / "train-000000.tar", [Record("train-00000007", 0, members)], [])
    facts = {"classes": ["a"], "splits": {"train": {"shards": [{"file": "train-000000.tar"}]}}}
    write_json(tmp_path / "manifest.json", facts)
    split = open_split(tmp_path, "train")
    for what, read in (("image", split.image), ("mask.png", split.object_mask)):
        words = rf"the {what} of train-00000007 in .*train-000000.tar cannot be read \(damaged .*prepare --force"
        with pytest.raises(SslkitError, match=words):
            read(0)


class _ByNumber(torch.utils.data.Dataset):
    def __init__(self, split):
        self.split = split

    def __getitem__(self, i):
        return self.split.image(i)

    def __len__(self):
        return len(self.split)


def test_an_error_in_a_loaders_worker_stays_one_line(tmp_path):
    write_shard(tmp_path / "train-000000.tar", [Record("train-00000007", 0, {"png": b"no image"})], [])
    facts = {"classes": ["a"], "splits": {"train": {"shards": [{"file": "train-000000.tar"}]}}}
    write_json(tmp_path / "manifest.json", facts)
    with pytest.raises(SslkitError, match=r"^the image of train-00000007 in .*prepare --force`$"):
        list(torch.utils.data.DataLoader(_ByNumber(open_split(tmp_path, "train")), num_workers=1))
