"""The state of every stage of a run: when it ran, what it gave, and what is stale."""

import sys
from typing import Any

from sslkit.artifacts import DamagedFile
from stages.contract.integrity import damaged_outputs
from stages.contract.layout import Result, Run
from stages.contract.lock import holder
from stages.contract.stage import recorded, stage_of
from stages.contract.stale import changed_inputs, stale_stages

Facts = dict[str, Any]


def survey(run: Run, verify: bool = False) -> dict[str, Facts]:
    """By stage: its state, stale inputs, time, seconds, memory, results and command.

    ``state`` is never, running, done, failed, interrupted, ``unfinished`` (its process is gone), ``files missing``, or
    ``damaged`` where ``stage.json`` or, with ``verify``, the bytes of another file are not what the stage wrote;
    ``damaged`` then lists the files. The stages that every run is expected to have are there before they ran; ``run``
    is where another run holds one.
    """
    found: dict[str, Facts] = {}
    for stage in _listed(run):
        home = run.home(stage_of(stage))
        try:
            record = home.record(stage)
        except DamagedFile as error:
            found[stage] = {"state": "damaged", "stale": [], "damaged": [error.path.name], "error": error.why}
            continue
        if record is None:
            found[stage] = {"state": "never", "stale": []}
            continue
        found[stage] = {
            "state": _state(home, stage, record),
            "stale": changed_inputs(home, stage),
            "when": record.get("started"),
            "seconds": record.get("seconds"),
            "peak_memory_mb": record.get("peak_memory_mb"),
            "results": record.get("results", {}),
            "error": record.get("error"),
            "command": record.get("command"),
        }
        if verify and record["status"] == "done":
            damaged = damaged_outputs(home.folder(stage), record, most=sys.maxsize)
            found[stage] |= {"damaged": damaged, **({"state": "damaged"} if damaged else {})}
        if home is not run:
            found[stage]["run"] = str(home.path)
        before = {name: bool(facts["stale"]) for name, facts in found.items()}
        found[stage]["stale"] += stale_stages(run, home, record, before)
    return found


def begun(run: Run, verify: bool = False) -> dict[str, Facts]:
    """The survey of the stages begun in this very directory; below ``on/`` data and training are other runs'."""
    own = run.stages()
    return {stage: facts for stage, facts in survey(run, verify).items() if stage in own}


def stale_inputs(run: Run, stage: str) -> Facts:
    """``{"stale": [...]}``: inputs that changed, and stages that made inputs and are stale themselves; else {}."""
    stale = survey(run).get(stage, {}).get("stale")
    return {"stale": stale} if stale else {}


def stale_makers(run: Run, inputs: Result) -> dict[str, list[str]]:
    """Stages whose files are about to be read though they are stale, each with what changed since.

    Args:
        run: the run directory.
        inputs: paths and digests, as in a ``stage.json``.
    """
    found = {stage: facts["stale"] for stage, facts in survey(run).items()} if inputs else {}
    makers = stale_stages(run, run, {"inputs": inputs}, {stage: bool(stale) for stage, stale in found.items()})
    return {stage: stale for stage, stale in found.items() if f"stage {stage}" in makers}


def _listed(run: Run) -> list[str]:
    """The expected stages, done or not, and whatever else was begun; in the pipeline's order."""
    own = run.stages()
    listed = []
    for name, stage in recorded().items():
        listed += [name] if stage.expected or name in own else []
        listed += [variant for variant in own if variant.startswith(f"{name}:")]
    return listed


def _state(run: Run, stage: str, record: Result) -> str:
    state = record["status"]
    if state == "running" and holder(run.path) != stage:
        return "unfinished"
    if state == "done" and damaged_outputs(run.folder(stage), record, whole=False):
        return "files missing"
    return state
