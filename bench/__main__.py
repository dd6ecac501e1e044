"""Lists the commands of the suite, or runs one of them: python -m bench [COMMAND ...]"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from bench.cli.options import guarded
from bench.spec.lookup import UnknownName, lookup

COMMANDS = {
    "bench.run": "train methods on data sets; every run writes a record",
    "bench.tune": "tune methods with equal numbers of trials, and write the study of the best settings",
    "bench.plan": "forecast a study's steps, hours, disk and memory, here or on a GPU that is not here",
    "bench.report": "make tables and figures from the records",
    "bench.runs": "list, show, compare, delete and export runs, and say what is done of a study",
    "bench.data": "list the data sets, say how to get one, check it, decode it, draw some of it",
    "bench.doctor": "check this set-up: what is missing, and what is left out because of it",
    "bench.speed": "measure the training steps of every method, beside other packages and the autograd baseline",
    "bench.gpu_check": "check an accelerator beside the CPU: numbers, waits, speed and a small study",
    "bench.relations": "compare NORMAL's task positions with how tasks relate",
    "bench.error_rates": "simulate studies without differences: how often verdicts are wrong, and what they find",
    "bench.control": "tabulate the positive control for NORMAL: do positions find the true times?",
    "bench.toy": "run every weighting on the published two-task problem in the plane",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Lists the commands, or returns the exit code of the one that is named; 2 if there is no such command."""
    words = sys.argv[1:] if argv is None else argv
    if words and words[0] not in ("-h", "--help"):
        try:
            name = lookup([command.removeprefix("bench.") for command in COMMANDS], "command", words[0])
        except UnknownName as error:
            print(error, file=sys.stderr)
            return 2
        code: int = import_module(f"bench.{name}").main(words[1:])
        return code
    return guarded(_list)


def _list() -> int:
    print("The benchmark suite for multi-task learning. Commands:\n")
    for command, purpose in COMMANDS.items():
        print(f"  python -m {command:<15} {purpose}")
    print("\nEach lists its options with --help; README.md has examples.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
