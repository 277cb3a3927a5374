"""`sslkit status RUN`: every stage of a run, what it gave, and what is stale."""

from typing import Any

from sslkit.errors import SslkitError
from stages.contract.output import table
from stages.contract.run import CHAIN, FOLDERS, TRANSFERS, Result, Run, outputs_intact
from stages.options.basic import JsonOption, RunArgument

# Shown first where a stage reports them; otherwise its first numbers and names are.
HEADLINES = ("top1", "top5")
MAX_RESULTS = 3


def status(run: RunArgument, as_json: JsonOption = False) -> None:
    """Show the state of every stage: when it ran, what it gave, and whether its inputs changed since."""
    if not run.is_dir():
        raise SslkitError(f"{run} is no run directory: start one with `sslkit prepare {run} --source ...`")
    here = Run(run)
    found = {path.name for path in run.iterdir() if not path.name.startswith(".")}
    if found and not here.stages() and not found & {*FOLDERS.values(), TRANSFERS, here.preview.name}:
        raise SslkitError(f"{run} holds other things than a run: start one with `sslkit prepare RUN --source ...`")
    stages, below = survey(here), {other.path.name: judged(other) for other in here.transfers()}
    if as_json:
        import json

        print(json.dumps({"run": str(run), "stages": stages, "on": below}))
        return
    elsewhere = {f"{stage} on {name}": facts for name, those in below.items() for stage, facts in those.items()}
    print("\n".join(lines({**stages, **elsewhere})))


def survey(run: Run) -> dict[str, dict[str, Any]]:
    """What ``--json`` prints: per stage its state, stale inputs, time, seconds, memory, results and command.

    ``state`` is never, running, done, failed, interrupted, or unfinished: it was running and its process is gone.
    """
    found: dict[str, dict[str, Any]] = {}
    for stage in _stages(run):
        home = _home(run, stage)
        record = home.record(stage)
        if record is None:
            found[stage] = {"state": "never", "stale": []}
            continue
        found[stage] = {
            "state": _state(home, stage, record),
            "stale": home.stale(stage),
            "when": record.get("started"),
            "seconds": record.get("seconds"),
            "peak_memory_mb": record.get("peak_memory_mb"),
            "results": record.get("results", {}),
            "error": record.get("error"),
            "command": record.get("command"),
        }
        if home is not run:
            found[stage]["run"] = str(home.path)
        found[stage]["stale"] += _stale_sources(run, home, record, found)
    return found


def _home(run: Run, stage: str) -> Run:
    """Where a stage of a run was done: data may be another run's, and below ``on/`` the training is the upper run's."""
    if stage == "prepare" and run.data != run.own_data:
        return Run(run.data.parent)
    return run.trained if stage == "pretrain" else run


def judged(run: Run) -> dict[str, dict[str, Any]]:
    """The same of a run below ``on/``: what was begun there; its data and its training are others'."""
    begun = run.stages()
    return {stage: facts for stage, facts in survey(run).items() if stage in begun}


def _stages(run: Run) -> list[str]:
    """The chain, done or not, and whatever else was begun; in the pipeline's order."""
    begun = run.stages()
    chain = list(FOLDERS)[:CHAIN]
    return [stage for name in FOLDERS for stage in ([name] if name in chain or name in begun else [])
            + [variant for variant in begun if variant.startswith(f"{name}:")]]  # fmt: skip


def _state(run: Run, stage: str, record: Result) -> str:
    state = record["status"]
    if state == "running" and run.writer() != stage:
        return "unfinished"
    if state == "done" and not outputs_intact(run.folder(stage), record):
        return "files missing"
    return state


def _stale_sources(run: Run, home: Run, record: Result, found: dict[str, dict[str, Any]]) -> list[str]:
    """Stages that wrote this stage's inputs and are stale themselves, though the files have not changed yet."""
    stage_of = {_home(run, stage).folder(stage).resolve(): stage for stage in found}
    sources = []
    for was in record["inputs"].values():
        folders = (home.path / was["path"]).resolve().parents
        source = next((stage_of[folder] for folder in folders if folder in stage_of), None)
        if source and found[source]["stale"] and f"stage {source}" not in sources:
            sources.append(f"stage {source}")
    return sources


def lines(stages: dict[str, dict[str, Any]]) -> list[str]:
    """The same for a person: a table, then what is stale or failed, then the commands."""
    rows: list[list[Any]] = [["stage", "state", "when", "seconds", "MB", "results"]]
    for stage, facts in stages.items():
        state = facts["state"] + (", stale" if facts["stale"] else "")
        when = (facts.get("when") or "-")[:16].replace("T", " ")
        seconds, memory = facts.get("seconds"), facts.get("peak_memory_mb")
        row = [stage, state, when, "-" if seconds is None else f"{seconds:.1f}", memory or "-"]
        rows.append([*row, _headline(facts.get("results") or {})])
    text = table(rows)
    for stage, facts in stages.items():
        if facts["stale"]:
            text.append(f"{stage} is stale: {', '.join(facts['stale'])} changed since; --force redoes it")
        if facts["state"] in ("failed", "unfinished", "interrupted"):
            why = f" ({facts['error']})" if facts.get("error") else ""
            then = "once that is mended, " if facts["state"] == "failed" else ""
            text.append(f"{stage} is {facts['state']}{why}; {then}the same command goes on")
        if facts["state"] == "files missing":
            text.append(f"{stage} wrote files that are gone or changed in size; the same command makes them again")
    commands = [f"  {facts['command']}" for facts in stages.values() if facts.get("command")]
    return [*text, "commands:", *commands] if commands else text


def _headline(results: dict[str, Any]) -> str:
    names = [name for name in HEADLINES if name in results]
    names = names or [name for name, value in results.items() if isinstance(value, int | float | str)]
    return ", ".join(f"{name} {_short(results[name])}" for name in names[:MAX_RESULTS])


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
