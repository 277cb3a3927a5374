"""The rows of a table, as text: CSV, TSV, JSON, JSON lines, Parquet, and columns set apart by spaces."""

import codecs
import csv
import io
import json
import os
from pathlib import PurePosixPath
from typing import Any

from sslkit.errors import SslkitError
from sslkit.files import printable


def table_rows(name: str, data: bytes) -> list[list[str]]:
    """Cells of every row that is not empty, the header's among them.

    Args:
        name: of the table; its suffix says what its format is.
        data: its bytes.

    Raises:
        SslkitError: the table cannot be read.
    """
    suffix = PurePosixPath(name).suffix.lower()
    try:
        if suffix == ".parquet":
            import pyarrow.parquet

            return _from_objects(pyarrow.parquet.read_table(io.BytesIO(data)).to_pylist())
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # Excel's "Unicode text"
            text = data.decode("utf-16", errors="replace")
        else:
            text = data.decode("utf-8-sig", errors="surrogateescape")
        if suffix in (".jsonl", ".ndjson"):
            return _from_objects([json.loads(line) for line in text.splitlines() if line.strip()])
        if suffix == ".json":
            value = json.loads(text)
            pairs = isinstance(value, dict) and not any(isinstance(v, dict | list) for v in value.values())
            return [[k, _text(v)] for k, v in value.items()] if pairs else _from_objects(value)
        return _lines(suffix, text)
    except ImportError:
        raise SslkitError(f"{name} requires pyarrow: pip install 'sslkit[parquet]'") from None
    except Exception as error:  # Damaged tables raise anything from csv.Error to RecursionError.
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise SslkitError(f"{name} cannot be read ({reason})") from error


def _lines(suffix: str, text: str) -> list[list[str]]:
    """Rows of a table that is no JSON."""
    first = text.partition("\n")[0]
    if suffix == ".csv" or any(mark in first for mark in "\t,;"):
        mark = "\t" if suffix == ".tsv" else max(",;\t|", key=first.count)
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=mark))
    else:
        rows = [line.split(maxsplit=1) for line in text.splitlines() if not line.startswith("#")]
    return [[cell.strip() for cell in row] for row in rows if any(row)]


def _from_objects(value: Any) -> list[list[str]]:
    """Rows of JSON objects, behind a header of all their keys."""
    objects = [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
    keys = list(dict.fromkeys(key for one in objects for key in one))
    return [keys, *([_text(one.get(key)) for key in keys] for one in objects)] if keys else []


def _text(value: Any) -> str:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    text = "" if value is None else str(value)
    try:
        os.fsencode(text)
    except UnicodeEncodeError:  # half a character, as JSON can write it
        return printable(text)
    return text
