"""Files and whole folders of a finished run that are another run's, or another file's of the same run: each is sound.

What a copy or a script may do; only what was recorded of them tells.
"""

import json
import re
import shutil
from pathlib import Path
from random import Random

from campaign.kind import Damage
from campaign.kinds.run_artifacts import (
    CHAIN,
    COMPARE,
    EXTRACT,
    KNN,
    LINEAR,
    PRETRAIN,
    READERS,
    STATUS,
    RunArtifacts,
    chained,
    digests,
    in_a_child,
    write_inputs,
)

FOLDERS = {
    "pretrain": [PRETRAIN, EXTRACT, f"{KNN} --force", STATUS],  # extract --force is right to take the new encoder
    "features": [EXTRACT, f"{KNN} --force", f"{LINEAR} --force", STATUS, COMPARE],
    "knn": [KNN, COMPARE, STATUS],
    "linear": [LINEAR, COMPARE, STATUS],
}


class Swapped(RunArtifacts):
    """Two runs that differ by their seed."""

    weight = 0.25
    said = re.compile(r"stale|made again")

    def build(self, folder: Path) -> None:
        """Both with features and probes."""
        self.warm_up(folder, lambda words: 0)
        write_inputs(folder)
        other = [words.replace("run/a", "run/b") for words in CHAIN[1:]]
        other[0] += " --seed 1"
        in_a_child(lambda: chained(folder, (*CHAIN, *other)))
        (folder / "input" / "original.json").write_text(json.dumps(digests(folder / "run")))
        (folder / "input" / "command.json").write_text(json.dumps([*CHAIN, STATUS]))

    def damage(self, folder: Path, draw: Random) -> Damage:
        """A file by the other run's or by another one with its ending, or a folder by the other run's."""
        run = folder / "run"
        way = draw.choice(("other run", "other run", "other file", "folder"))
        if way == "folder":
            name = f"a/{draw.choice([*FOLDERS])}"
            commands, words = FOLDERS[name[2:]], "the other run's folder"
            shutil.rmtree(run / name)
            shutil.copytree(run / name.replace("a/", "b/", 1), run / name)
        else:
            name = draw.choice([each for each in READERS if each.startswith("a/") and "reference" not in each])
            commands, twin = READERS[name], run / name.replace("a/", "b/", 1)
            same_kind = sorted(p for p in (run / "a").rglob(f"*{twin.suffix}") if p != run / name and p.is_file())
            source = draw.choice(same_kind) if way == "other file" and same_kind else twin
            shutil.copyfile(source, run / name)
            words = str(source.relative_to(run))
        command = draw.choice(commands)
        (folder / "input" / "command.json").write_text(json.dumps([command]))
        (folder / "input" / "before.json").write_text(json.dumps(digests(run)))
        return Damage(f"{name}: {words}; {command}")
