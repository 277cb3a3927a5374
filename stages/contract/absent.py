"""What to say where a run, or a file that one of its stages makes, is not there."""

from pathlib import Path

from sslkit.errors import nearest
from stages.contract.integrity import command_of, read_record
from stages.contract.lock import holder
from stages.contract.stage import Stage


def no_run(path: Path, advice: str = "") -> str:
    """The message on a path where no run is: the nearest one that exists, and how to start one, or other advice."""
    advice = advice or (
        f"start one with `sslkit prepare {path} --source ...`, "
        f"or with `sslkit pretrain {path} --data RUN ...` on prepared data"
    )
    if near := nearest_folder(path):
        advice = f"did you mean {near}? If not, {advice}"
    return f"no run directory at {path}: {advice}"


def nearest_folder(path: Path) -> Path | None:
    """The folder that a misspelt path means, if its first part that does not exist is close to one that does."""
    there = next((parent for parent in path.parents if parent.is_dir()), None)
    if there is None or (path.is_absolute() and there == Path(path.anchor)):
        return None
    wrong, *below = path.relative_to(there).parts
    try:
        folders = [each.name for each in there.iterdir() if each.is_dir() and not each.name.startswith(".")]
    except OSError:
        return None
    found = nearest(wrong, folders)
    meant = there.joinpath(found, *below) if found else None
    return meant if meant is not None and meant.is_dir() else None


def unfinished(folder: Path, stage: Stage, file: Path | None = None) -> str:
    """Why a stage has not made what another needs, and the command to rerun; empty if it was never begun.

    Args:
        folder: the stage's, in the run that holds it.
        stage: its declaration.
        file: that is missing; one that a finished stage wrote is gone.

    Raises:
        DamagedFile: its ``stage.json`` is not what it wrote.
    """
    record = read_record(folder)
    if record is None:
        return ""
    again, state = f"`{command_of(folder, stage)}`", record["status"]
    if state == "done":
        wrote = file is not None and file.relative_to(folder).as_posix() in record.get("outputs", {})
        return f"{stage.name} wrote it, so it was removed since: rerun {again} to restore it" if wrote else ""
    if state == "failed":
        why = f" ({record['error']})" if record.get("error") else ""
        return f"{stage.name} failed{why}: fix that, then rerun {again}"
    if state == "running" and holder(folder.parent) == record.get("stage", stage.name):
        return f"{stage.name} is still running: wait until it is done"
    ended = "was interrupted" if state == "interrupted" else "was killed before it was done"
    return f"{stage.name} {ended}: rerun {again} to resume"
