"""How methods are compared on data sets: plans, the training engine, records and reports.

`load_runs`, `load_curves`, `load_positions` and `load_items` give records as tables of pandas (docs/frames.md).
"""

import os
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pandas import DataFrame

    from bench.records.frames import load_curves, load_items, load_positions, load_runs

    __all__ = ["ROOT", "load_curves", "load_items", "load_positions", "load_runs"]

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


def __getattr__(name: str) -> "Callable[..., DataFrame]":
    """The functions that load tables, imported when they are first asked for: every command imports this package."""
    if name not in ("load_curves", "load_items", "load_positions", "load_runs"):
        raise AttributeError(f"module 'bench' has no attribute {name!r}")
    loader: Callable[..., DataFrame] = getattr(import_module("bench.records.frames"), name)
    return loader
