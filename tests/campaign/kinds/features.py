"""Features made by another program, damaged or of odd types, shapes and labels, through ``knn`` and ``linear``."""

import io
import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from campaign.damage import damage_file
from campaign.kind import Damage, Kind

DTYPES = (
    *(
        ">f4",
        "<f8",
        ">f8",
        "<f2",
        ">f2",
        "<f4",
        "g",
        "<i4",
        ">i8",
        "u1",
        "i1",
        "?",
        "<c8",
        "S3",
        "U4",
        "M8[s]",
        "m8[ns]",
    ),
    *("V4", "O", [("a", "<f4"), ("b", "<i4")], [("a", "<f4", (2,))]),
)
SHAPES = (
    (),
    (0,),
    (24,),
    (24, 0),
    (0, 8),
    (24, 1),
    (24, 2, 4),
    (24, 2, 2, 2),
    (1, 24, 8),
    (24, 8, 1),
    (23, 8),
    (12, 16),
)
NUMBERS = (np.nan, np.inf, -np.inf, 1e38, 3e38, -1e38, 1e-45, 0.0)
LABELS = (-1, -2, -(2**63), 2**63 - 1, 10**8, 2**31, 2**32, 10**6, 40)


class Features(Kind):
    """Two classes in train and val."""

    def build(self, folder: Path) -> None:
        """24 and 12 rows of 8 numbers."""
        for split, count in (("train", 24), ("val", 12)):
            draw, labels = np.random.default_rng(count), np.arange(count) % 2
            place = folder / "run" / "features" / split
            place.mkdir(parents=True)
            np.save(place / "cls.npy", (draw.normal(size=(count, 8)) + labels[:, None]).astype(np.float32))
            np.save(place / "labels.npy", labels)

    def damage(self, folder: Path, draw: Random) -> Damage:
        """Bytes, the header, the type, the shape, or single numbers."""
        path = draw.choice(sorted((folder / "run").rglob("*.npy")))
        name = f"{path.parent.name}/{path.name}"
        way = draw.choice(("bytes", "header", "type", "shape", "numbers", "numbers"))
        if way == "bytes":
            return Damage(f"{name}: {damage_file(path, draw)}", recorded=False)
        values = np.load(path)
        if way == "header":
            return Damage(f"{name}: header {_header(path, draw)}", recorded=False)
        if way == "type":
            kind = draw.choice(DTYPES)
            changed = _as(values, kind)
        elif way == "shape":
            kind = draw.choice(SHAPES)
            changed = np.resize(values, kind)
        else:
            changed, kind = values.copy(), draw.choice(NUMBERS if path.stem == "cls" else LABELS)
            changed.flat[draw.randrange(changed.size)] = kind
            if draw.random() < 0.2:
                changed[:] = kind
        np.save(path, changed, allow_pickle=True)
        return Damage(f"{name}: {way} {kind}", recorded=False)

    def commands(self, folder: Path) -> list[list[str]]:
        """Both probes, k-NN also with few shots."""
        return [["knn", "run"], ["knn", "run", "--shots", "1,2", "--draws", "2"], ["linear", "run", "--epochs", "1"]]

    def result(self, folder: Path) -> Any:
        """The accuracies."""
        files = [folder / "run" / name / "results.json" for name in ("knn", "knn-shots", "linear")]
        return [json.loads(path.read_text())["top1"] for path in files]


def _as(values: np.ndarray, kind: Any) -> np.ndarray:
    """The values in another type, where numbers can be."""
    kind = np.dtype(kind)
    if kind.kind in "VOSUMm":
        changed = np.zeros(values.shape, kind)
        if kind.kind == "O":
            changed[:] = values
        return changed
    return values.astype(kind)


def _header(path: Path, draw: Random) -> str:
    """Write a file whose header says something else than it holds; returns what."""
    descr = draw.choice(
        ("<f4", ">f4", "<i8", "|O", "<f16", "<U1000000", "|V0", "<f4,", "__import__('os')", 5, [("a",)], None)
    )
    shape = draw.choice(((24, 8), (12,), (10**9, 8), (2**40, 2**40), (-1, 8), (24, 8.0), "24", (24,) * 70, None))
    entries = {"descr": descr, "fortran_order": draw.choice((False, True, 1, "no")), "shape": shape}
    if draw.random() < 0.2:
        entries.pop(draw.choice([*entries]))
    text = draw.choice((str(entries), str(entries), "(" * 10_000, "{'a': 1}", "[]"))
    body = text.encode().ljust(118) + b"\n"
    with io.BytesIO() as file:
        file.write(np.lib.format.magic(1, 0) + (len(body) % (1 << 16)).to_bytes(2, "little") + body)
        path.write_bytes(file.getvalue() + path.read_bytes()[128:])
    return text[:100]
