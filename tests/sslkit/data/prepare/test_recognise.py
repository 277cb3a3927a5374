"""Which source a place is given to, and places of several datasets."""

import shutil

import pytest
from source_files import png, tar_bytes, tinted, write

from sslkit.data.prepare.recognise import recognise
from sslkit.errors import UsageError

STL10 = {"stl10_binary/train_X.bin": b"", "stl10_binary/test_X.bin": b""}
PHOTOS = {f"photos/ant/{i}.png": png() for i in range(12)}
SHARD = {"wds/0.tar": tar_bytes({"0.jpg": tinted(0), "0.cls": b"0"})}


@pytest.mark.parametrize("above", ["", "one/two/"])
@pytest.mark.parametrize("others", [PHOTOS, {"hub/train-0.parquet": b""}, SHARD, PHOTOS | SHARD])
def test_a_place_of_several_datasets_is_refused_and_they_are_named(others, above, tmp_path):
    files = {f"{above}{name}": data for name, data in (STL10 | others).items()}
    root = write(tmp_path / "root", files)
    with pytest.raises(UsageError, match="holds several datasets: ") as refused:
        recognise(root)
    message = str(refused.value)
    for name in STL10 | others:
        assert f"{above}{name.split('/')[0]} (" in message
    assert f"--source {root}/{above}stl10_binary;" in message
    assert f"--source stl10 --root {root} " in message
    assert recognise(root / above / "stl10_binary")[0] == "stl10"


def test_several_datasets_deeper_down_and_in_an_archive_are_refused(tmp_path):
    files = {f"{top}/{name}": data for top in ("a", "b") for name, data in (STL10 | PHOTOS).items()}
    root = write(tmp_path / "root", files)
    with pytest.raises(UsageError, match=r"root/a holds several datasets: photos \(folder\), stl10_binary"):
        recognise(root)
    archive = shutil.make_archive(str(tmp_path / "packed"), "zip", root / "a")
    with pytest.raises(UsageError, match=r"unpack it and give one of them$"):
        recognise(type(root)(archive))


@pytest.mark.parametrize(("files", "source"), [
    (STL10 | {"figures/a.png": png()}, "stl10"),
    ({"train/n01440764/a.JPEG": b""} | {f"val/ILSVRC2012_val_{i:08d}.JPEG": b"" for i in range(12)}, "imagenet"),
    ({f"n01440764/{i}.JPEG": b"" for i in range(12)} | {"val/ILSVRC2012_val_00000001.JPEG": b""}, "imagenet"),
    ({"ILSVRC/val/ILSVRC2012_val_00000001.JPEG": b"", "LOC_val_solution.csv": b""}, "imagenet"),
    ({"one/train-0.parquet": b"", "two/train-0.parquet": b""}, "parquet"),
    ({"train/0.tar": SHARD["wds/0.tar"], "val/0.tar": SHARD["wds/0.tar"]}, "shards"),
    (PHOTOS, "folder"),
])  # fmt: skip
def test_parts_of_one_dataset_and_a_few_pictures_are_not_several(files, source, tmp_path):
    assert recognise(write(tmp_path / "root", files))[0] == source
