"""Archives of class folders, damaged anywhere or with odd members, through ``prepare``.

Their pictures are PNGs, whose checksums tell of damage that a tar's do not.
"""

import bz2
import gzip
import hashlib
import io
import lzma
import tarfile
import zipfile
from pathlib import Path
from random import Random
from typing import Any

from campaign.damage import damage_file
from campaign.kind import Damage, Kind
from campaign.kinds.images import picture

NAMES = [f"photos/{label}/{number}.png" for label in ("cat", "dog") for number in range(3)]
PACKERS = {"tar": bytes, "tar.gz": gzip.compress, "tar.bz2": bz2.compress, "tar.xz": lzma.compress}
ZIPS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
FORMS = (tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)
TYPES = (*b"01234567", *b"xgLKSVD", 0, 255)


def tar_of(members: list[tuple[str, bytes]], form: int = tarfile.USTAR_FORMAT) -> bytes:
    """A tar of files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def zip_of(members: list[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip of files; equal names are written without a warning."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members:
            archive.NameToInfo.pop(name, None)
            archive.writestr(name, data)
    return buffer.getvalue()


def _resealed(header: bytearray) -> bytes:
    """A tar's header with the right checksum."""
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def _odd_members(folder: Path, draw: Random) -> list[tuple[str, bytes]]:
    """Names that occur twice, lead elsewhere, are long or odd; files that are bombs."""
    image = picture(50, "png")
    outside = folder.parents[2] / "escaped.png"
    return draw.choices(
        [
            (draw.choice(NAMES), image),
            (f"photos/{'../' * draw.randrange(1, 8)}escaped.png", image),
            (str(outside), image),
            (f"photos/cat/{'x' * draw.choice((90, 200, 3000))}.png", image),
            ("photos/cat/\u30cd\u30b3.png", image),
            ("photos/cat/a\\b:c*?.png", image),
            ("photos/cat", image),
            ("photos/cat/0.png/1.png", image),
            ("photos/cat/bomb.png", bytes(20_000_000)),
            ("photos/cat/list.csv", b"a,b\n" * 10_000),
            ("/", b""),
        ],
        k=draw.randrange(1, 4),
    )


class Archives(Kind):
    """Every archive that ``prepare`` reads; the command reads the only one that is left."""

    def build(self, folder: Path) -> None:
        """The pictures; the archive is made of them when it is damaged."""
        members = [(name, picture(number, "png")) for number, name in enumerate(NAMES)]
        (folder / "input").mkdir()
        (folder / "input" / "a.tar").write_bytes(tar_of(members))

    def damage(self, folder: Path, draw: Random) -> Damage:
        """Bytes, fields of headers, or members."""
        first = folder / "input" / "a.tar"
        with tarfile.open(first) as tar:
            members = [(m.name, tar.extractfile(m).read()) for m in tar.getmembers()]  # type: ignore[union-attr]
        first.unlink()
        suffix = draw.choice((*PACKERS, "zip", "zip"))
        path = first.with_name(f"a.{suffix}")
        way = draw.choice(("bytes", "bytes", "bytes", "fields", "members"))
        if way == "members":
            more = _odd_members(folder, draw)
            members += more
            draw.shuffle(members)
        if suffix == "zip":
            data = zip_of(members, draw.choice(ZIPS))
            path.write_bytes(_zip_fields(data, draw) if way == "fields" else data)
        else:
            data = tar_of(members, draw.choice(FORMS[1:] if way == "members" else FORMS))  # USTAR has no long names
            path.write_bytes(PACKERS[suffix](_tar_fields(data, draw) if way == "fields" else data))
        if way == "bytes":
            return Damage(damage_file(path, draw))
        words = f"odd members {', '.join(name[-30:] for name, _ in more)}" if way == "members" else "fields of headers"
        return Damage(f"{path.name}: {words}", recorded=False)

    def commands(self, folder: Path) -> list[list[str]]:
        """Prepare from whatever archive there is."""
        path = next((folder / "input").iterdir()).relative_to(folder)
        return [["prepare", "run", "--source", str(path), "--workers", "0", "--val-fraction", "0"]]

    def result(self, folder: Path) -> Any:
        """Digests of the pixels by name."""
        from sslkit.data.shards import open_split

        split = open_split(folder / "run" / "data", "train")
        pixels = (split.image(i).contiguous().numpy().tobytes() for i in range(len(split)))
        return {split.own_name(i): hashlib.sha256(p).hexdigest() for i, p in enumerate(pixels)}


def _tar_fields(data: bytes, draw: Random) -> bytes:
    """Fields of a member's header replaced, under a right checksum."""
    changed = bytearray(data)
    place = draw.choice([i for i in range(0, len(data), 512) if data[i + 257 : i + 262] == b"ustar"])
    header = changed[place : place + 512]
    field = draw.choice(("size", "size", "type", "any"))
    if field == "size":
        big = draw.choice((-1, -512, 1 << 40, 1 << 62, 1 << 90, 10))
        octal = draw.choice((b"77777777777\0", b"00000000000\0", b"hello\0\0\0\0\0\0\0", b"\0" * 12))
        header[124:136] = draw.choice((octal, (big % (1 << 96) | 1 << 95).to_bytes(12, "big")))
    elif field == "type":
        header[156] = draw.choice(TYPES)
    else:
        start = draw.randrange(500)
        header[start : start + 8] = draw.randbytes(8)
    changed[place : place + 512] = _resealed(header)
    return bytes(changed)


def _zip_fields(data: bytes, draw: Random) -> bytes:
    """Fields of a local header, the directory or its end replaced."""
    changed = bytearray(data)
    mark = draw.choice((b"PK\3\4", b"PK\1\2", b"PK\1\2", b"PK\5\6"))
    places = [i for i in range(len(data)) if data[i : i + 4] == mark]
    place, size = draw.choice(places) + draw.randrange(4, 46), draw.choice((1, 2, 4))
    value = draw.choice((0, 1, 97, 0x7F, 0xFF))
    changed[place : place + size] = bytes([value]) * len(changed[place : place + size])
    return bytes(changed)
