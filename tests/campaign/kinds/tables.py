"""Tables of labels next to photos, in every format, and parquet files of photos, damaged, through ``prepare``."""

import csv
import io
import json
from pathlib import Path
from random import Random
from typing import Any

from campaign.damage import VALUES, damage_file, damage_value, odd_file
from campaign.kind import Damage, Kind
from campaign.kinds.images import picture

COUNT = 6
ROWS = [{"file": f"{i}.png", "label": ("ant", "bee")[i % 2], "split": ("train", "val")[i == 5]} for i in range(COUNT)]
FORMATS = ("csv", "tsv", "txt", "json", "jsonl", "parquet", "photos")
LABELS = (0, 1, -1, 10**9, 2**63 - 1, "x", None)


class Tables(Kind):
    """A flat folder of photos; the table next to it, or the parquet file of photos, is written when it is damaged."""

    def build(self, folder: Path) -> None:
        """The photos with a table."""
        (folder / "input").mkdir()
        for i in range(COUNT):
            (folder / "input" / f"{i}.png").write_bytes(picture(i, "png"))
        _write(folder / "input" / "labels.csv", "csv", ROWS)

    def damage(self, folder: Path, draw: Random) -> Damage:
        """Bytes, or cells, or rows."""
        suffix = draw.choice(FORMATS)
        (folder / "input" / "labels.csv").unlink()
        rows, words = ROWS, ""
        if draw.random() < 0.5:
            rows, words = damage_value(ROWS, draw)
        path = folder / "input" / f"labels.{suffix}"
        if suffix == "photos":
            for photo in (folder / "input").glob("*.png"):
                photo.unlink()
            path = folder / "input" / "train.parquet"
            odd = _photos(path, draw)
            words = odd if words else ""
        else:
            try:
                _write(path, suffix, rows)
            except Exception:  # the format cannot hold such values
                _write(path, suffix, ROWS)
                words = ""
        if not words:
            words = odd_file(path, draw) if draw.random() < 0.1 else damage_file(path, draw)
        return Damage(f"{path.name}: {words}", recorded=False)

    def commands(self, folder: Path) -> list[list[str]]:
        """Prepare, with the table named where there is one for half of the cases (by their length)."""
        words = ["prepare", "run", "--source", "input", "--workers", "0", "--val-fraction", "0"]
        table = next((folder / "input").glob("labels.*"), None)
        if table is not None and table.lstat().st_size % 2:
            words += ["--labels", str(table.relative_to(folder))]
        return [words]

    def result(self, folder: Path) -> Any:
        """The class names."""
        return json.loads((folder / "run" / "data" / "manifest.json").read_text())["classes"]


def _write(path: Path, suffix: str, rows: Any) -> None:
    if suffix == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(rows), path)
        return
    if suffix == "json":
        text = json.dumps(rows)
    elif suffix == "jsonl":
        text = "\n".join(json.dumps(row) for row in rows)
    else:
        buffer = io.StringIO()
        mark = {"csv": ",", "tsv": "\t", "txt": " "}[suffix]
        writer = csv.writer(buffer, delimiter=mark)
        writer.writerow([*ROWS[0]])
        for row in rows:
            writer.writerow([*row.values()] if isinstance(row, dict) else [row])
        text = buffer.getvalue()
    path.write_bytes(text.encode(errors="surrogatepass"))


def _photos(path: Path, draw: Random) -> str:
    """A parquet file of photos with odd cells; returns what is odd."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    label = draw.choice(LABELS)
    image: Any = draw.choice((b"", None, picture(8, "png"), 5, "text", [1, 2], 1.5))
    elsewhere = draw.choice((None, "a.png", "../../x", "/etc/hostname", "\x00", "x" * 5000, 5))
    cell: Any = {"bytes": image, "path": elsewhere}
    rows = [{"image": {"bytes": picture(i, "png"), "path": f"{i}.png"}, "label": i % 2} for i in range(COUNT)]
    way = draw.choice(("label", "image", "cell", "all", "meta"))
    schema = None
    if way == "label":
        rows[draw.randrange(COUNT)]["label"] = label
    elif way == "image":
        rows = [{**row, "image": image} for row in rows]
    elif way == "cell":
        rows[draw.randrange(COUNT)]["image"] = cell
    elif way == "all":
        value = draw.choice(VALUES) or None  # parquet holds no empty struct
        rows = [{**row, "label": value} for row in rows[:1]] * COUNT
    try:
        table = pa.Table.from_pylist(rows, schema)
    except Exception:  # mixed types
        table = pa.Table.from_pylist([{"image": picture(0, "png"), "label": 0}])
    if way == "meta":
        typed = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["a", "b"]}}
        facts, words = damage_value({"info": {"features": typed}}, draw)
        table = table.replace_schema_metadata({"huggingface": json.dumps(facts).encode()})
        way += f" {words}"
    pq.write_table(table, path)
    return f"{way} {str(label)[:20]} {str(image)[:20]} {str(cell)[:40]}"
