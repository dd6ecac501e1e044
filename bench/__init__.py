"""How methods are compared on data sets: plans, the training engine, records and reports."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Another installed package may also be called `datasets`; ours is the one that stands beside this one.
if sys.path[0] != str(ROOT):
    sys.path.insert(0, str(ROOT))
