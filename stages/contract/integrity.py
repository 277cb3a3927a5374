"""Whether the files of a run still hold what was written, and which command makes one that does not again.

The chain starts at ``stage.json``, which carries a SHA-256 of itself. It lists the SHA-256 of every file that its stage
wrote, and so vouches for ``manifest.json`` and ``features.json``, and they for shards and arrays.
"""

import hashlib
import json
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sslkit.artifacts import DamagedFile, check_digest, read_json
from sslkit.files import write_json
from stages.contract.stage import Stage, recorded

RECORD, REFERENCE = "stage.json", "reference.json"
CHECK = "sha256_of_this_record"
AT_ONCE = 4 << 30  # bytes that are read again, in some seconds, before a stage is called up to date
DIGEST = {"path": str, "sha256": str}
SHAPE = {
    "status": str,
    "config": dict,
    "inputs": {str: DIGEST},
    "stage?": str,
    "command?": str,
    "started?": str,
    "error?": str,
    "how?": dict,
    "versions?": {str: str},
    "results?": dict,
    "outputs?": {str: (int, {"bytes": int, "sha256": (str, None)})},  # earlier versions only recorded the size
    "seconds?": float,
    "peak_memory_mb?": (int, None),
}


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write ``stage.json`` with a SHA-256 of itself."""
    write_json(folder / RECORD, {**record, CHECK: _digest(record)})


def read_record(folder: Path) -> dict[str, Any] | None:
    """The ``stage.json`` in a folder; None when there is none.

    Raises:
        DamagedFile: it does not hold what was written.
    """
    path = folder / RECORD
    try:
        record = read_json(path, SHAPE)
    except FileNotFoundError:
        return None
    check = record.pop(CHECK, None)  # earlier versions wrote none
    if check is not None and check != _digest(record):
        raise DamagedFile(path, "it is not what the stage wrote")
    return record


def _digest(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def check_recorded(path: Path) -> None:
    """Compare a file with what the stage that wrote it recorded; files without such a record are left alone.

    Raises:
        DamagedFile: it holds something else.
    """
    folder = next((parent for parent in list(path.parents)[:4] if (parent / RECORD).is_file()), None)
    record = read_record(folder) if folder is not None and path.name != RECORD else None
    if folder is None or record is None or record["status"] != "done":
        return
    known = record.get("outputs", {}).get(path.relative_to(folder).as_posix())
    if isinstance(known, dict) and known["sha256"] is not None:
        check_digest(path, known["sha256"])


def damaged_outputs(folder: Path, record: Mapping[str, Any], whole: bool = True, most: int = AT_ONCE) -> list[str]:
    """The files of a finished stage that are missing or are no longer what it wrote, by relative path.

    Args:
        folder: of the stage.
        record: its ``stage.json``.
        whole: compare bytes, and not only sizes.
        most: of a stage with more bytes than this only sizes are compared.
    """
    found, known = [], record.get("outputs", {})
    sizes = {name: facts if isinstance(facts, int) else facts["bytes"] for name, facts in known.items()}
    whole = whole and sum(sizes.values()) <= most
    for name, facts in known.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != sizes[name]:
            found.append(name)
        elif whole and isinstance(facts, dict) and facts["sha256"] is not None:
            try:
                check_digest(path, facts["sha256"])
            except DamagedFile:
                found.append(name)
    return found


def remedy(path: Path) -> str:
    """What to do about a damaged file: the command that makes it again, or where another copy may come from."""
    if path.name == REFERENCE:
        return "name the prepared data again with --data RUN"
    for folder in path.parents:
        stage = _stage_in(folder)
        if stage is not None and (folder / RECORD).exists():
            command = command_of(folder, stage)
            return f"redo it with `{command if '--force' in command.split() else f'{command} --force'}`"
    return "put a good copy in its place"


def _stage_in(folder: Path) -> Stage | None:
    named = (stage for stage in recorded().values() if folder.name in (stage.folder, *_variants(folder, stage)))
    return next(named, None)


def _variants(folder: Path, stage: Stage) -> list[str]:
    return [folder.name] if folder.name.startswith(f"{stage.folder}-") else []


def recorded_command(folder: Path, stage: Stage) -> str:
    """The command that a stage recorded in its folder; empty where it has none that still fits the run."""
    try:
        command = (read_record(folder) or {}).get("command", "")
    except DamagedFile:
        command = ""
    words = shlex.split(command)
    named = [*words[2:], *filter(None, [os.environ.get("SSLKIT_RUN")])]
    # A run that was moved or copied, or another working directory: the recorded command would redo another run.
    fits = words[:2] == ["sslkit", stage.name] and any(Path(w).resolve() == folder.parent.resolve() for w in named)
    return command if fits else ""


def command_of(folder: Path, stage: Stage) -> str:
    """The command that a stage recorded in its folder; where it does not fit the run any more, its usual form."""
    return recorded_command(folder, stage) or usual_command(folder.parent, stage)


def usual_command(run: Path, stage: Stage) -> str:
    """The command of a stage in a run, as far as the run's path tells."""
    return f"sslkit {stage.name} {shlex.quote(str(run))} {stage.requires}".rstrip()
