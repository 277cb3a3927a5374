"""Every pipeline runs to its end with a command line that only notes its words, and what it asks for exists."""

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest
from commands import recipe_of
from conftest import ROOT

from sslkit.recipe.schema import as_dict

FOLDER = ROOT / "stages" / "pipelines"
CASES = [(path.stem, "") for path in sorted(FOLDER.glob("*.sh")) if path.stem != "shared"]
CASES += [(name, "small32") for name, _ in CASES if "SCALE" in (FOLDER / f"{name}.sh").read_text()]
ARGUMENTS = {"transfer": ["runs/transfer", "mae", "digits:25=digits", "photos:14=photos.tar"]}

# Functions, which bash calls without a process, and which the shells that xargs starts inherit. A dry run prints what
# the sweep reads, and Python reads what a dry run prints.
STAND_INS = r"""
sslkit() {
  printf '%q ' "$@" >>"$NOTES" && echo >>"$NOTES"
  case "$*" in
    prepare*) mkdir -p "$2" ;;
    *--dry-run*) echo "GFLOPs per image, training 0.5" ;;
  esac
}
python3() { read -r _ && echo 3; }
export -f sslkit python3
bash "$@"
"""
HELP: dict[str, str] = {}  # of each command, which takes a while to print


def commands(name: str, scale: str, folder: Path) -> list[list[str]]:
    """The words of every ``sslkit`` that a pipeline runs in a folder, with its own defaults but for the scale."""
    script, notes = FOLDER / f"{name}.sh", folder / "notes"
    words = ARGUMENTS.get(name, ["photos.tar"] if "${1:?" in script.read_text() else [])
    environment = {"PATH": os.environ["PATH"], "NOTES": str(notes), "SCALE": scale}
    shell = ["bash", "-c", STAND_INS, "bash", str(script), *words]
    done = subprocess.run(shell, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [shlex.split(line) for line in notes.read_text().splitlines()]


@pytest.mark.parametrize(("name", "scale"), CASES)
def test_the_training_runs_of_a_pipeline_resolve_and_no_two_are_alike(name, scale, tmp_path):
    """Recipes and settings, in whatever list or variable the script keeps them; seeds aside."""
    asked = set()
    for words in commands(name, scale, tmp_path):
        if words[0] == "pretrain" and "--dry-run" not in words:
            seed = words.index("--seed") if "--seed" in words else len(words)
            asked.add((*words[2:seed], *words[seed + 2 :]))
    trained: dict[str, list[tuple[str, ...]]] = {}
    for words in asked:
        trained.setdefault(json.dumps(as_dict(recipe_of(words))), []).append(words)
    assert trained
    assert not [alike for alike in trained.values() if len(alike) > 1]


@pytest.mark.parametrize("name", [name for name, scale in CASES if not scale])
def test_the_commands_and_options_of_a_pipeline_exist(name, sslkit, tmp_path):
    options: dict[str, set[str]] = {}
    for command, *words in commands(name, "", tmp_path):
        options.setdefault(command, set()).update(word.split("=")[0] for word in words if word.startswith("--"))
    for command, wanted in options.items():
        if command not in HELP:
            HELP[command] = sslkit(command, "--help")[1]
        assert f"sslkit {command}" in HELP[command]
        assert not [option for option in wanted if option not in HELP[command]]
