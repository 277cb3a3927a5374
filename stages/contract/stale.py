"""The rule for "stale": an input of a finished stage changed, or was made by a stage that is stale itself."""

from sslkit.files import sha256
from stages.contract.layout import Result, Run
from stages.contract.stage import stage_of


def changed_inputs(run: Run, stage: str) -> list[str]:
    """Names of the inputs whose files are gone or have another SHA-256 than when the stage ran."""
    inputs = (run.record(stage) or {}).get("inputs", {})
    paths = {name: run.path / was["path"] for name, was in inputs.items()}
    if "data" in paths and not paths["data"].exists():
        paths["data"] = run.manifest  # the data may have been moved, and named again by --data
    return [name for name, path in paths.items() if not path.is_file() or sha256(path) != inputs[name]["sha256"]]


def stale_stages(run: Run, home: Run, record: Result, stale: dict[str, bool]) -> list[str]:
    """Stages that made inputs of a stage and are stale themselves, though those files have not changed yet.

    Args:
        run: the run that is surveyed.
        home: the run that holds the stage's folder.
        record: the stage's ``stage.json``.
        stale: for every stage before it, whether it is stale.
    """
    stage_in = {run.home(stage_of(stage)).folder(stage).resolve(): stage for stage in stale}
    sources = []
    for was in record["inputs"].values():
        folders = (home.path / was["path"]).resolve().parents
        source = next((stage_in[folder] for folder in folders if folder in stage_in), None)
        if source and stale[source] and f"stage {source}" not in sources:
            sources.append(f"stage {source}")
    return sources
