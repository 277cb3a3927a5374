import os
import socket
from pathlib import Path

import numpy as np
import pytest

from sslkit.data.images import encode_png
from sslkit.data.prepare.archives import files
from sslkit.data.prepare.archives.fingerprints import file_fingerprint
from sslkit.data.prepare.archives.folder import Folder
from sslkit.data.prepare.archives.tar import Tar
from sslkit.errors import SslkitError

PIXELS = np.zeros((8, 8, 3), np.uint8)


def fifo(path: Path) -> None:
    os.mkfifo(path)


def a_socket(path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch, socket.socket(socket.AF_UNIX) as server:
        patch.chdir(path.parent)  # a socket's path is short
        server.bind(path.name)


ODD = {
    "a FIFO": (fifo, "a FIFO"),
    "a socket": (a_socket, "a socket"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "a device"),
    "a loop": (lambda path: path.symlink_to(path.name), "symbolic links"),
    "a dangling link": (lambda path: path.symlink_to("nowhere"), "No such file"),
    "a circle": (lambda path: path.symlink_to(".."), "a folder"),
}


@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_file_is_named_and_never_waited_for(kind: str, tmp_path: Path, sslkit) -> None:
    make, reason = ODD[kind]
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        (tmp_path / "photos" / label / "good.png").write_bytes(encode_png(PIXELS))
    make(tmp_path / "photos" / "cat" / "odd.png")
    words = ("prepare", tmp_path / "run", "--source", tmp_path / "photos", "--workers", 0)
    code, out, err = sslkit(*words)
    assert code == 0, err
    assert "1 image that cannot be read skipped" in out
    skipped = (tmp_path / "run" / "data" / "skipped.jsonl").read_text()
    assert "cat/odd.png" in skipped
    assert reason in skipped


def test_an_archive_that_is_a_fifo_is_refused(tmp_path: Path, sslkit) -> None:
    for name in ("a.tar", "a.tar.gz", "a.zip", "a.parquet"):
        fifo(tmp_path / name)
        code, _, err = sslkit("prepare", tmp_path / "run", "--source", tmp_path / name, "--workers", 0)
        assert code == 2
        assert f"{name}: it is a FIFO" in err
    with pytest.raises(SslkitError, match="a FIFO"):
        Tar(tmp_path / "a.tar")
    with pytest.raises(SslkitError, match="a FIFO"):
        file_fingerprint(tmp_path / "a.zip")


def test_a_file_of_any_size_is_read_with_a_bound(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "large.png").write_bytes(b"12345")
    monkeypatch.setattr(files, "MOST_BYTES", 4)
    with pytest.raises(OSError, match="it has 5 bytes"):
        Folder(tmp_path).read(0)


def test_folders_of_any_depth_are_walked(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(1100):
        Path("d").mkdir()
        os.chdir("d")
    Path("a.png").write_bytes(b"")
    names = Folder(tmp_path).names
    Path("a.png").unlink()  # pytest cannot remove a tree this deep
    for _ in range(1100):
        os.chdir("..")
        Path("d").rmdir()
    assert [name.count("/") for name in names] == [1100]
