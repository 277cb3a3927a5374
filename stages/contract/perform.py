"""The contract that every stage obeys, whatever it does.

A lock that dies with its process; a ``stage.json`` with what went in and what came out; "up to date" when nothing
changed; a refusal that names what changed; and a folder that a second attempt finds as the first one left it.
"""

import json
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, TypeVar

from sslkit.errors import InterruptedRun, SslkitError
from sslkit.files import sweep
from stages.contract.experiment import logged
from stages.contract.integrity import check_recorded, damaged_outputs, write_record
from stages.contract.layout import Result, Run
from stages.contract.lock import held
from stages.contract.output import say
from stages.contract.record import describe_difference, fingerprints, outputs, peak_memory_mb, versions
from stages.contract.stage import Stage
from stages.contract.survey import stale_inputs, stale_makers

P = TypeVar("P")


class OtherSettingsError(SslkitError):
    """The stage ran before with other settings, and left files."""


def nothing() -> None:
    """The ``prepare`` of a stage that has nothing to open or check beforehand."""


def perform(
    run: Run,
    stage: Stage,
    *,
    prepare: Callable[[], P],
    work: Callable[[Path, P], Result],
    config: Mapping[str, Any],
    inputs: Mapping[str, Path],
    variant: str = "",
    how: Mapping[str, Any] | None = None,
    force: bool = False,
) -> Result:
    """Run a stage in its folder and return its results.

    Args:
        run: the run directory.
        stage: the stage's declaration.
        prepare: opens what the work needs, and raises where it cannot be done. It is called when something is to be
            done, before anything is written or thrown away: a mistake leaves neither a failed stage nor a gap where
            results were.
        work: does the stage in the folder that it is given, which holds what an unfinished attempt left, with what
            ``prepare`` returned. It returns results that JSON can hold; they are stored in ``stage.json``.
        config: the settings that the results depend on; another config is refused without ``force``.
        inputs: the files that the results depend on, by name; compared by SHA-256.
        variant: does the stage in a folder of its own.
        how: device, workers, ...: recorded, not compared.
        force: throw away what the stage wrote before, and start again.

    Returns:
        The results, with ``"up_to_date": True`` added when nothing had to be done, and then ``"stale": [...]`` where
        the inputs' own inputs changed.

    Raises:
        SslkitError: another process writes this run, it ran before with other settings, or an input is damaged.
    """
    stage_id = stage.id(variant)
    folder = run.folder(stage_id)
    for path in inputs.values():
        check_recorded(path)
    wanted = {"config": json.loads(json.dumps(config)), "inputs": fingerprints(inputs, run.path)}
    with held(run.path, stage_id):
        sweep(folder.rglob(".*.tmp"))  # of a process that was killed while it wrote them
        old = None if force else run.record(stage_id)
        if old and (earlier := _earlier(run, stage, old, wanted)) is not None:
            return earlier
        prepared = prepare()
        _say_what_is_stale(run, wanted["inputs"])
        if force and folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        record = {
            "stage": stage_id,
            "status": "running",
            "command": shlex.join(["sslkit", *sys.argv[1:]]),
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            **wanted,
            "how": dict(how or {}),
            "versions": versions(),
        }
        return logged(run, stage_id, _recorded(folder, record, lambda: work(folder, prepared), old or {}))


def _say_what_is_stale(run: Run, inputs: Result) -> None:
    for maker, changed in stale_makers(run, inputs).items():
        say(
            f"stage {maker} is stale: {', '.join(changed)} changed since; its files are used as they are "
            f"(`sslkit status {run.trained.path}` lists the commands)"
        )


def _earlier(run: Run, stage: Stage, old: Result, wanted: Result) -> Result | None:
    """The results of an earlier run of the stage, if they still hold; None where there is something to do.

    Raises:
        OtherSettingsError: it ran with another config or other inputs, and left files.
    """
    stage_id, done = old["stage"], old["status"] == "done"
    folder, difference = run.folder(stage_id), describe_difference(old, wanted)
    if difference and (done or outputs(folder)):
        advice = f"; {stage.otherwise.format(run=run.path)}" if stage.otherwise and done else ""
        raise OtherSettingsError(f"{stage_id} ran before with other settings: {difference}; --force redoes it{advice}")
    if difference or not done:
        return None
    if damaged := damaged_outputs(folder, old):
        say(f"{stage_id}: {', '.join(damaged)} missing or no longer what it wrote: made again")
        for name in damaged:
            if name not in stage.resumes_from:
                (folder / name).unlink(missing_ok=True)
        return None
    if "data" in wanted["inputs"]:
        run.remember_data()  # they may have been moved
    return {**old["results"], "up_to_date": True, **stale_inputs(run, stage_id)}


def _recorded(folder: Path, record: Result, work: Callable[[], Result], old: Result) -> Result:
    """Do the work, and write to ``stage.json`` how it went.

    Args:
        folder: the stage's.
        record: what is known beforehand.
        work: returns the results.
        old: the record of an earlier attempt, or {}.
    """
    began = time.time() - old.get("seconds", 0.0)
    try:
        write_record(folder, record)
        record["results"] = work()
        record["status"] = "done"
        return record["results"]
    except (KeyboardInterrupt, InterruptedRun):
        record["status"] = "interrupted"
        raise
    except BaseException as error:
        record["status"] = "failed"
        record["error"] = str(error).split("\n")[0]
        raise
    finally:
        record["seconds"] = round(time.time() - began, 2)
        record["peak_memory_mb"] = peak_memory_mb()
        record["outputs"] = outputs(folder, digests=record["status"] == "done")
        # On a full disk the reason why the work failed is worth more than the failure to record it.
        with nullcontext() if record["status"] == "done" else suppress(OSError, SslkitError):
            write_record(folder, record)
