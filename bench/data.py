"""Data sets: python -m bench.data list."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.lookup import UnknownName, lookup
from bench.options import add_data_root, guarded, plain_console
from datasets import DATASETS, find


def main(argv: Sequence[str] | None = None) -> int:
    """0, or 2 for bad input."""
    parser = ArgumentParser(prog="python -m bench.data", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="all data sets, and which are on this machine")
    how = commands.add_parser("how", help="where to get a data set and how to lay it out")
    how.add_argument("name")
    for command in (listing, how):
        add_data_root(command)
    arguments = parser.parse_args(argv)
    console = plain_console()
    if arguments.command == "list":
        return _list(arguments.data_root, console)
    return guarded(lambda: _how(arguments.name, arguments.data_root, console), UnknownName)


def _list(root: Path, console: Console) -> int:
    table = Table(
        "name", "data set", "kind", "tasks", "backbone", "epochs", "on this machine", box=None, pad_edge=False
    )
    for name, info in DATASETS.items():
        folder = find(name, root)
        state = str(folder) if folder else ("made when needed" if info.make else "not found")
        counts = (str(len(info.tasks)), info.backbone, str(info.recipe.epochs))
        table.add_row(name, info.label, info.kind, *counts, state)
    console.print(table)
    console.print(
        f"\nLooked in {root} (--data-root or MTL_DATA). `python -m bench.data how NAME` tells where to get one."
    )
    return 0


def _how(name: str, root: Path, console: Console) -> int:
    info = DATASETS[lookup(DATASETS, "data set", name)]
    console.print(f"{info.label}: {info.how}\nIt goes into {root / info.folder[0]}.\n{info.source}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
