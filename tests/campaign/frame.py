"""A campaign of damaged inputs: thousands of seeded cases, each in a forked process with bounds on time and memory.

A case is an input of one kind (``kinds/``), damaged by a random number generator that depends only on the seed, the
kind and the case's number, and the sslkit commands that read it. The table at the end counts what became of them:

* ok: the commands succeeded, with the result of the undamaged input or with a word on what was left out;
* refused: one line that says what is wrong, and exit code 1 or 2;
* crash: a signal ended the process, or an exit code that no command has;
* hang: it took longer than the bound;
* "a bug?": an error that was not foreseen, or a traceback;
* outside: a file was written outside the run;
* silent: another result than that of the undamaged input, without a word, where a checksum could have told.

All but the first two fail the campaign. To add a kind, see ``kind.Kind``: one file in ``kinds/``, four methods. To see
one case again: ``python -m tests.campaign --seed 1 --kind images --case 17 --keep FOLDER``.
"""

import argparse
import gc
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from campaign.kind import Damage, Kind, kinds

OUTCOMES = ("ok", "refused", "crash", "hang", "a bug?", "outside", "silent")
FAILURES = (*OUTCOMES[2:], "broken")  # the last: the kind could not damage its input
SECONDS, MEMORY, FILE_BYTES = 20, 1 << 30, 1 << 28  # bounds of a case
RESULT, OUTPUT, NOTE = "result.json", "output.txt", "damage.json"  # files of a case, next to its folder
HOME = "home"


@dataclass(frozen=True)
class Case:
    """A case of the campaign, and where it runs."""

    kind: Kind
    number: int  # -1 for the undamaged input
    seed: int
    place: Path  # empty; the input, the run and everything else of the case are below it

    @property
    def folder(self) -> Path:
        """Where the commands run, so deep that `..` leads to a place that is looked at."""
        return self.place / "files" / "a" / "b" / "c"


@dataclass(frozen=True)
class Ended:
    """How a case ended."""

    outcome: str
    damage: str
    last: str  # line of what was printed
    result: Any
    said: int  # words on damage


def start(case: Case, built: Path) -> int:
    """Fork a process that damages a copy of what was built and runs the commands; its process id."""
    case.place.mkdir(parents=True)
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        os.setsid()
        signal.alarm(SECONDS)
        code = _child(case, built)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def _child(case: Case, built: Path) -> int:
    shutil.copytree(built, case.folder, symlinks=True)
    (case.folder / HOME).mkdir()
    os.chdir(case.folder)
    damage = Damage("undamaged")
    if case.number >= 0:
        damage = case.kind.damage(case.folder, Random(f"{case.seed} {case.kind.name} {case.number}"))
    note = {"words": damage.words, "recorded": damage.recorded, "before": sorted(_listed(case.place / "files"))}
    (case.place / NOTE).write_text(json.dumps(note))
    sink = os.open(case.place / OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(sink, 1), os.dup2(sink, 2)  # what C libraries print is output as well
    os.environ.update(HOME=str(case.folder / HOME), TMPDIR=str(case.folder / HOME))
    tempfile.tempdir = None
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for words in case.kind.commands(case.folder):
        code = _sslkit(words)
        if code:
            return code
    (case.place / RESULT).write_text(json.dumps(case.kind.result(case.folder)))
    return 0


def _sslkit(words: list[str]) -> int:
    from stages import cli

    sys.argv = ["sslkit", *words]
    try:
        cli.main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    finally:
        sys.stdout.flush(), sys.stderr.flush()
    return 0


def _listed(folder: Path) -> Iterator[str]:
    """What is in a folder, links not followed, but below ``run`` and ``home`` only their names."""
    for path in folder.iterdir():
        yield str(path)
        if path.is_dir() and not path.is_symlink() and path.name not in ("run", HOME):
            yield from _listed(path)


def ended(case: Case, status: int, undamaged: Ended | None) -> Ended:
    """What became of a case whose process has ended."""
    if not (case.place / NOTE).exists():
        return Ended("broken", "the kind's own fault, above", "", None, 0)
    note = json.loads((case.place / NOTE).read_text())
    output = (case.place / OUTPUT).read_text(errors="replace") if (case.place / OUTPUT).exists() else ""
    lines = output.strip().splitlines()
    said = len(case.kind.said.findall(output))
    done = (case.place / RESULT).exists()
    result = json.loads((case.place / RESULT).read_text()) if done else None
    outcome = _outcome(case, status, output, note["before"])
    if outcome == "ok" and undamaged and note["recorded"] and said <= undamaged.said:
        outcome = "ok" if case.kind.same(undamaged.result, result) else "silent"
    return Ended(outcome, note["words"], lines[-1] if lines else "", result, said)


def _outcome(case: Case, status: int, output: str, before: list[str]) -> str:
    """All but silent."""
    allowed = {str(case.folder / "run")}
    if set(_listed(case.place / "files")) - set(before) - allowed:
        return "outside"
    if os.WIFSIGNALED(status):
        return "hang" if os.WTERMSIG(status) == signal.SIGALRM else "crash"
    code = os.WEXITSTATUS(status)
    if any(words in output for words in ("a bug?", "Traceback (most recent call last)", "sslkit: out of memory")):
        return "a bug?"
    if code not in (0, 1, 2):
        return "crash"
    lines = output.strip().splitlines()
    if code and not (lines and lines[-1].startswith("sslkit: ")):
        return "a bug?"
    return "refused" if code else "ok"


def run(cases: list[Case], built: dict[str, Path], jobs: int, keep: bool) -> Iterator[tuple[Case, Ended]]:
    """Run cases, so many at a time; the undamaged inputs come first."""
    undamaged: dict[str, Ended] = {}
    running: dict[int, Case] = {}
    waiting = list(reversed(cases))
    while waiting or running:
        while (
            waiting and len(running) < jobs and (waiting[-1].number < 0 or all(c.number >= 0 for c in running.values()))
        ):
            case = waiting.pop()
            running[start(case, built[case.kind.name])] = case
        pid, status = os.wait()
        case = running.pop(pid)
        how = ended(case, status, undamaged.get(case.kind.name))
        if case.number < 0:
            if how.outcome != "ok":
                raise SystemExit(f"the undamaged input of {case.kind.name} gives {how.outcome}: {how.last}")
            undamaged[case.kind.name] = how
        else:
            yield case, how
        if not keep:
            shutil.rmtree(case.place)


def warm_up(kind: Kind, built: Path, place: Path) -> None:
    """Run the undamaged case in this process, so that what it imports need not be imported in every other one."""
    case = Case(kind, -1, 0, place)
    shutil.copytree(built, case.folder, symlinks=True)
    here, streams = Path.cwd(), [os.dup(1), os.dup(2)]
    os.chdir(case.folder)
    with (place / OUTPUT).open("w") as sink:
        os.dup2(sink.fileno(), 1), os.dup2(sink.fileno(), 2)
        try:
            kind.warm_up(case.folder, _sslkit)
        finally:
            for number, stream in enumerate(streams, 1):
                os.dup2(stream, number), os.close(stream)
            os.chdir(here)
    shutil.rmtree(place)


def shared_out(every: list[Kind], count: int) -> dict[str, int]:
    """How many cases each kind has."""
    total = sum(kind.weight for kind in every)
    return {kind.name: max(1, round(count * kind.weight / total)) for kind in every}


def table(counts: dict[str, Counter[str]]) -> list[str]:
    """Lines of kinds and outcomes, with their sums."""
    sums = sum(counts.values(), Counter[str]())
    rows = [["", "cases", *OUTCOMES]]
    for name, found in [*counts.items(), ("all", sums)]:
        rows.append([name, str(found.total()), *(str(found[outcome]) for outcome in OUTCOMES)])
    return ["".join(cell.ljust(12) if i == 0 else cell.rjust(9) for i, cell in enumerate(row)) for row in rows]


def main() -> int:
    """Run a campaign, and print the cases that failed and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=200, help="in all kinds together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", action="append", help="only these; repeatable")
    parser.add_argument("--case", type=int, help="only the case of this number")
    parser.add_argument("--keep", type=Path, help="a new folder for the files of all cases")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    began, every = time.monotonic(), kinds(arguments.kind)
    counts = {kind.name: Counter[str]() for kind in every}
    with tempfile.TemporaryDirectory() as temporary:
        top = (arguments.keep or Path(temporary)).resolve()
        built = {kind.name: top / "built" / kind.name for kind in every}
        for kind in every:
            built[kind.name].mkdir(parents=True)
            kind.build(built[kind.name])
            warm_up(kind, built[kind.name], top / "warm")
        gc.freeze()  # a collection in a case's process would write to, and thus copy, every page
        shares = shared_out(every, arguments.cases)
        numbers = {n: range(k) if arguments.case is None else [arguments.case] for n, k in shares.items()}
        wanted = [(kind, -1) for kind in every] + [(kind, i) for kind in every for i in numbers[kind.name]]
        cases = [Case(kind, i, arguments.seed, top / f"{kind.name}-{i}") for kind, i in wanted]
        for case, how in run(cases, built, arguments.jobs, keep=arguments.keep is not None):
            counts[case.kind.name][how.outcome] += 1
            if how.outcome in FAILURES or arguments.case is not None:
                print(f"{case.kind.name} {case.number}: {how.outcome}: {how.damage}: {how.last[:200]}", flush=True)
    print("\n".join(table(counts)))
    print(f"seed {arguments.seed}, {time.monotonic() - began:.0f} s")
    return int(any(found[outcome] for found in counts.values() for outcome in FAILURES))
