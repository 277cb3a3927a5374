"""Run the campaign: ``python -m tests.campaign --cases 3000 --seed 1``, see ``frame.py``."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # `campaign` is then a package, however this file was started

# A forked process would wait for ever for the threads that its parent's OpenMP had.
os.environ["OMP_NUM_THREADS"] = "1"

from campaign.frame import main

if __name__ == "__main__":
    sys.exit(main())
