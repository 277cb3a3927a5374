import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from sslkit.data.images import encode_png
from sslkit.data.prepare.archives import opening
from sslkit.data.prepare.archives.opening import open_files
from sslkit.data.prepare.archives.tar import Tar
from sslkit.data.prepare.archives.zip import Zip
from sslkit.data.sources.folder import FolderSource
from sslkit.errors import SslkitError


def png(number: int) -> bytes:
    return encode_png(np.random.default_rng(number).integers(0, 256, (24, 24, 3), np.uint8))


def member(name: str, data: bytes = b"") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    return info


def write_tar(path: Path, members: list[tuple[str, bytes]], form: int = tarfile.USTAR_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form) as tar:
        for name, data in members:
            tar.addfile(member(name, data), io.BytesIO(data))
    return path


def write_zip(path: Path, members: list[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive, pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)  # zipfile warns of equal names
        for name, data in members:
            archive.writestr(name, data)
    return path


TWICE = [("a/0.png", png(0)), ("a/1.png", png(1)), ("b/0.png", png(2)), ("./a/0.png", png(3))]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, "zip"])
def test_of_members_with_one_name_the_last_counts_and_this_is_said(form: int | str, tmp_path: Path) -> None:
    long = [("a/" + "x" * 120 + ".png", png(4))] if form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT) else []
    members = [*TWICE, *long]
    path = tmp_path / ("a.zip" if form == "zip" else "a.tar")
    files = Zip(write_zip(path, members)) if isinstance(form, str) else Tar(write_tar(path, members, form))
    assert len(files.names) == 3 + len(long)
    assert files.read(files.names.index("a/0.png")) == png(3)
    source = FolderSource(path)
    source.open(tmp_path)
    assert len(source.splits()["train"]) == 3 + len(long)
    said = f"1 member of {path.name} has the name of a later one, which is used (such as a/0.png)"
    assert said in source.remarks


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_member_of_a_zip_costs_that_member(method: int, tmp_path: Path) -> None:
    """Whatever its decompressor raises, and wherever the damage is."""
    path = write_zip(tmp_path / "a.zip", TWICE[:3], method)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("a/1.png")
    begin = info.header_offset + 30 + len("a/1.png")
    for place in range(begin + 4, begin + info.compress_size, 97):  # LZMA's first bytes are a version
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        files = Zip(path)
        with pytest.raises(OSError):
            files.read(files.names.index("a/1.png"))
        assert files.read(files.names.index("b/0.png")) == png(2)
        with pytest.raises(OSError):
            files.copy(files.names.index("a/1.png"), io.BytesIO())


def test_an_encrypted_member_and_an_unknown_compression_are_named(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", TWICE[:2])
    data = path.read_bytes()
    first, listed = data.index(b"PK\3\4"), data.index(b"PK\1\2")
    for field, value, words in ((6, 1, "encrypted"), (8, 97, "compression")):
        changed = bytearray(data)
        changed[first + field], changed[listed + field + 2] = value, value
        path.write_bytes(changed)
        files = Zip(path)
        with pytest.raises(OSError, match=words):
            files.read(0)
        assert files.read(1) == png(1)


@pytest.mark.parametrize(("suffix", "pack"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)])
def test_a_damaged_stream_is_an_error_that_names_the_file(suffix: str, pack, tmp_path: Path) -> None:
    whole = pack(write_tar(tmp_path / "a.tar", TWICE).read_bytes())
    path = tmp_path / f"a.tar.{suffix}"
    for place in range(0, len(whole), len(whole) // 12):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            opened = open_files(path, tmp_path)  # a flipped bit in a field that nothing depends on
        except SslkitError as error:
            assert str(path) in str(error)
        else:
            assert opened.read(opened.names.index("a/1.png")) == png(1)
        for left in tmp_path.glob(".*.tar"):
            left.unlink()


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT])
def test_members_behind_a_zeroed_header_are_not_lost_in_silence(form: int, tmp_path: Path) -> None:
    long = [("a/" + "x" * 120 + ".png", png(4))] if form == tarfile.PAX_FORMAT else []
    path = write_tar(tmp_path / "a.tar", [*long, *TWICE[:3]], form)
    data = bytearray(path.read_bytes())
    place = data.index(b"a/1.png\0")
    data[place : place + 512] = bytes(512)
    path.write_bytes(data)
    with pytest.raises(SslkitError, match=r"a\.tar .*no end-of-archive mark"):
        Tar(path)


def test_an_archive_that_unpacks_without_end_is_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(opening, "UNPACKED_AT_LEAST", 1 << 20)
    (tmp_path / "bomb.tar.bz2").write_bytes(bz2.compress(bytes(8 << 20)))
    (tmp_path / "scratch").mkdir()
    with pytest.raises(SslkitError, match=r"bomb.tar.bz2 unpacks to over 300 times its size"):
        open_files(tmp_path / "bomb.tar.bz2", tmp_path / "scratch")
    assert list((tmp_path / "scratch").iterdir()) == []


def test_two_tars_in_one_file_are_refused(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", TWICE[:2])
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(SslkitError, match="is it several tars"):
        Tar(path)


def checked(header: bytearray) -> bytes:
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


@pytest.mark.parametrize(
    ("kind", "size"),
    [(b"x", -1024), (b"0", -1024), (b"x", 1 << 62), (b"L", 1 << 62), (b"g", 1 << 40), (b"S", 1 << 62)],
)
def test_absurd_sizes_in_headers_neither_hang_nor_take_memory(kind: bytes, size: int, tmp_path: Path) -> None:
    header = bytearray(member("a/0.png").tobuf(tarfile.USTAR_FORMAT))
    header[124:136] = (0xFF if size < 0 else 0x80).to_bytes(1, "big") + (size % (1 << 88)).to_bytes(11, "big")
    header[156:157] = kind
    good = member("b/0.png").tobuf(tarfile.USTAR_FORMAT)
    (tmp_path / "a.tar").write_bytes(good + checked(header) + bytes(2048))
    with pytest.raises(SslkitError, match=r"a\.tar is truncated or not a tar"):
        Tar(tmp_path / "a.tar")


def test_pax_headers_of_any_content_are_an_error_or_read(tmp_path: Path) -> None:
    for text in (b"11 size=-9\n", b"15 size=hello\n", b"0 path=a\n", b"99999999999999999999 path=a\n", b"noise" * 50):
        head = member("pax")
        head.size, head.type = len(text), b"x"
        packed = head.tobuf(tarfile.USTAR_FORMAT) + text + bytes(-len(text) % 512)
        (tmp_path / "a.tar").write_bytes(packed + member("a/0.png").tobuf(tarfile.USTAR_FORMAT) + bytes(1024))
        try:
            Tar(tmp_path / "a.tar")
        except SslkitError as error:
            assert "a.tar" in str(error)


def test_a_sparse_member_is_named_and_links_are_said(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(member("a/0.png", png(0)), io.BytesIO(png(0)))
        link = member("a/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "0.png"
        tar.addfile(link)
        sparse = bytearray(member("a/1.png").tobuf(tarfile.USTAR_FORMAT))
        sparse[156:157], sparse[257:265] = b"S", b"ustar  \0"
        sparse[386:410], sparse[483:495] = b"00000000000\0" * 2, b"%011o\0" % 4096
        tar.fileobj.write(checked(sparse))  # type: ignore[union-attr]
        tar.offset += 512
    files = Tar(tmp_path / "a.tar")
    with pytest.raises(OSError, match="sparse member"):
        files.read(files.names.index("a/1.png"))
    assert files.read(files.names.index("a/0.png")) == png(0)
    assert files.remarks == ["1 member of a.tar is no file but a link or device (such as a/link.png)"]


def test_absolute_names_and_names_that_lead_upwards_are_only_read(tmp_path: Path, sslkit) -> None:
    odd = [
        ("/tmp/escape-0.png", png(0)),
        ("../../escape/1.png", png(1)),
        ("a/0.png", png(2)),
        ("a/../../2.png", png(3)),
    ]
    for path in (write_tar(tmp_path / "a.tar", odd), write_zip(tmp_path / "a.zip", odd)):
        before = sorted(tmp_path.rglob("*"))
        code, _, err = sslkit("prepare", tmp_path / path.suffix[1:], "--source", path, "--workers", 0)
        assert code in (0, 1), err
        assert {each for each in tmp_path.rglob("*") if path.suffix[1:] not in each.parts} == set(before)
    assert not Path("/tmp/escape-0.png").exists()


def test_a_zip_with_the_separators_of_windows_has_folders(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("cat\\0.png", "dog\\1.png"):
            archive.writestr(name, png(0))
    files = Zip(tmp_path / "a.zip")
    assert files.names == ["cat/0.png", "dog/1.png"]
    assert files.read(1) == png(0)
    assert files.remarks == ["a.zip has \\ in its names, which is taken for /"]
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        for name in ("cat/a\\b.png", "dog/1.png"):
            archive.writestr(name, png(0))
    assert Zip(tmp_path / "b.zip").names == ["cat/a\\b.png", "dog/1.png"]
