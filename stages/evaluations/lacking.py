"""Which runs of a comparison lack an expected evaluation that another run has, and which commands make up for it."""

from collections.abc import Sequence
from dataclasses import dataclass

from stages.contract.integrity import recorded_command
from stages.contract.layout import FEATURES, PRETRAIN
from stages.contract.stage import recorded, writer
from stages.evaluations.members import Member
from stages.evaluations.results import StageResult
from stages.inputs.features.splits import SPLITS, features_there


@dataclass(frozen=True)
class Lack:
    """A run, and the expected evaluations that it lacks."""

    member: Member
    evaluations: Sequence[StageResult]
    commands: Sequence[str]  # that make up for it, in order; none where something else has to be done first
    obstacle: str = ""  # what that is, and the commands after it; or why there can be none


def lacking(members: Sequence[Member], begun: bool = True) -> list[Lack]:
    """The runs that lack an evaluation on their own data which another one has.

    Args:
        members: all runs of the comparison.
        begun: also evaluations that failed, were interrupted or still run; otherwise those that never ran.
    """
    expected = [name for name, stage in recorded().items() if stage.expected and stage.evaluates]
    wanted = [name for name in expected if any(member.own[name].evaluations() for member in members)]
    found = []
    for member in members:
        missing = [member.own[name] for name in wanted if not member.own[name].evaluations()]
        if missing := [stage for stage in missing if begun or stage.state == "never"]:
            found.append(_lack(member, missing))
    return found


def _lack(member: Member, missing: Sequence[StageResult]) -> Lack:
    made = member.own[writer(FEATURES).name].results
    if unlabelled := [split for split in SPLITS if made and not made.get(split, {}).get("labelled")]:
        return Lack(member, missing, [], f"its data have no labelled {' and no labelled '.join(unlabelled)}")
    features, obstacle = _features(member)
    running = next((stage for stage in missing if stage.state == "running"), None)
    obstacle = f"{running.id} is running" if running else obstacle
    commands = [*features, *(_command(member, stage) for stage in missing if stage is not running)]
    if not obstacle:
        return Lack(member, missing, commands)
    return Lack(member, missing, [], "; then ".join([obstacle, *(f"`{command}`" for command in commands)]))


def _features(member: Member) -> tuple[list[str], str]:
    """The commands that make the features which an evaluation reads, and what has to be done before."""
    run, extraction, training = member.run, member.own[writer(FEATURES).name], member.own[writer(PRETRAIN).name]
    if extraction.state == "running":
        return [], f"{extraction.id} is running"
    if extraction.state == "done" or features_there(run):
        return [], ""
    command = _command(member, extraction)
    if extraction.config.get("weights", "run") == "run":
        if run.encoder.is_file():
            return [command], ""
        if training.state == "running":
            return [command], f"{training.id} is running"
        if again := recorded_command(run.pretrain, training.declared):
            return [again, command], ""
    elif recorded_command(extraction.folder, extraction.declared):
        return [command], ""
    elif made_by := extraction.record.get("command"):
        return [], f"extract its features as `{made_by}` did in another folder"
    return [], (
        "it has neither features nor an encoder: restore the features, train by "
        f"`{run.command(training.declared)}`, or name an encoder by `{command} --weights ...`"
    )


def _command(member: Member, stage: StageResult) -> str:
    """The command line of a stage with its own options, where it was begun with some."""
    return recorded_command(stage.folder, stage.declared) or member.run.command(stage.declared)
