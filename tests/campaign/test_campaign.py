import subprocess
import sys

from conftest import ROOT


def test_damaged_inputs_are_refused_or_named() -> None:
    """Two hundred cases; ``make campaign`` runs thousands."""
    words = [sys.executable, "-m", "tests.campaign", "--cases", "200", "--jobs", "2"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
