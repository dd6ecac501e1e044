"""How methods are compared on data sets: plans, the training engine, records and reports."""

import os
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Another installed package may also be called `datasets`; ours is the one that stands beside this one.
if sys.path[0] != str(ROOT):
    sys.path.insert(0, str(ROOT))

# So Python calls itself while it imports a command: python -m bench.run. That takes seconds, and Ctrl-C has nothing to
# clean up yet. Once the command runs, it catches signals itself.
if sys.argv[0] == "-m" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, lambda number, frame: os._exit(128 + number))

# torch can't even be imported from a folder that is gone, and says something else about it.
if sys.argv[0] == "-m":
    try:
        os.getcwd()
    except OSError:
        print("The working directory was deleted; change to another folder (`cd`), then try again.", file=sys.stderr)
        sys.exit(2)
