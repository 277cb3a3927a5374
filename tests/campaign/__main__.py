"""Run the campaign: ``python -m tests.campaign --cases 3000 --seed 1``, see ``frame.py``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # `campaign` is then a package, however this file was started

from campaign.frame import main

if __name__ == "__main__":
    sys.exit(main())
