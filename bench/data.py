"""Data sets: python -m bench.data list."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench import ROOT
from bench.cli.options import (
    add_cache_dir,
    add_data_root,
    folder,
    guarded,
    image_size,
    lookup_name,
    plain_console,
    processes,
    random_seed,
)
from bench.cli.parser import CommandParser
from bench.cli.preparation import given_size, prepare
from bench.cli.progress import DecodingProgress
from bench.inspection.data_check import FULL_UP_TO, MOST_PRINTED, Position, Report, check
from bench.inspection.instructions import instructions
from bench.records.names import inside
from bench.spec.lookup import UnknownName, lookup
from datasets import DATASETS, find, obtain
from datasets.contract import DataError, DataSettings
from datasets.decoding.places import array_folders
from datasets.decoding.prepare import Preparation, preparing

PARTS = ("train", "validation", "test")
COLOURS = {"ok": "green", "differs": "yellow", "wrong": "red"}


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0, 1 if `check` finds an error, or 2 for bad input and absent data."""
    arguments = _parser().parse_args(argv)
    console = plain_console()
    commands = {"list": _list, "how": _how, "check": _check, "prepare": _prepare, "show": _show}
    return guarded(lambda: commands[arguments.command](arguments, console), UnknownName, DataError)


def _parser() -> CommandParser:
    parser = CommandParser(prog="python -m bench.data", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="list all data sets, and which are on this machine")
    how = commands.add_parser("how", help="say where to get a data set and how to lay it out")
    checking = commands.add_parser("check", help="compare counts with the published ones, and read the files")
    checking.add_argument(
        "--full", action="store_true", help=f"read every file (default: a sample of more than {FULL_UP_TO:,})"
    )
    checking.add_argument("--splits", type=folder, metavar="DIR", help="also check lists <domain>_<train|val|test>.txt")
    decoding = commands.add_parser("prepare", help="decode a data set once, for all runs")
    decoding.add_argument("--workers", type=processes, metavar="N", help="processes (default: one per core)")
    showing = commands.add_parser("show", help="draw some images with their labels; decodes the data set first")
    showing.add_argument("--part", choices=PARTS, default="train", help="default: train")
    showing.add_argument("--seed", type=random_seed, default=0, metavar="N", help="chooses the images (default: 0)")
    showing.add_argument("--out", type=folder, metavar="FILE", help="default: reports/data/NAME-PART.png")
    for command in (checking, decoding):
        command.add_argument(
            "--image-size",
            nargs="+",
            type=image_size,
            metavar="PIXELS",
            help="height and width, or none for the size on disk (default: the size that runs use by default)",
        )
    for command in (how, checking, decoding, showing):
        command.add_argument("name", type=lookup_name, metavar="NAME")
    for command in (listing, how, checking, decoding, showing):
        add_data_root(command)
    for command in (listing, checking, decoding, showing):
        add_cache_dir(command)
    return parser


def _list(arguments: Namespace, console: Console) -> int:
    root: Path = arguments.data_root
    columns = ("name", "data set", "kind", "tasks", "backbone", "epochs", "decoded", "on this machine")
    table = Table(*columns, box=None, pad_edge=False)
    for name, info in DATASETS.items():
        try:
            folder = find(name, root)
            state = str(folder) if folder else ("made when needed" if info.make else "not found")
        except DataError as error:
            folder, state = None, str(error)
        counts = (str(len(info.tasks)), info.backbone, str(info.recipe.epochs))
        table.add_row(name, info.label, info.kind, *counts, _decoded(folder, arguments.cache_dir), state)
    console.print(table)
    console.print(
        f"\nSearched {root} (--data-root or MTL_DATA); `python -m bench.data how NAME` says where to get a data set."
    )
    return 0


def _decoded(folder: Path | None, cache: Path | None) -> str:
    """The size of a data set's decoded arrays of all image sizes; unfinished ones don't count."""
    arrays = [path for place in array_folders(folder, cache) for path in place.glob("*.npy")] if folder else []
    return f"{sum(path.stat().st_size for path in arrays) / 1e6:,.0f} MB" if arrays else "no"


def _how(arguments: Namespace, console: Console) -> int:
    info = DATASETS[lookup(DATASETS, "data set", arguments.name)]
    console.print(instructions(info, arguments.data_root / info.folder[0]))
    return 0


def _check(arguments: Namespace, console: Console) -> int:
    name = lookup(DATASETS, "data set", arguments.name)
    info = DATASETS[name]
    folder = obtain(name, arguments.data_root)
    settings = DataSettings(given_size(info, arguments.image_size), splits=str(arguments.splits or ""))
    console.print(f"{info.label} in {folder}\n")
    if info.inventory is None:
        with preparing(Preparation(cache=arguments.cache_dir)):
            return _check_by_reading(name, folder, settings, console)
    with console.status("Listing files") as status:
        inventory = info.inventory(folder, settings)

        def show(now: Position) -> None:
            status.update(f"Reading {now.key}: {now.done:,} of {now.total:,}")

        report = check(inventory, info.published, arguments.full, show)
    _print(report, console)
    return 1 if report.errors else 0


def _check_by_reading(name: str, folder: Path, settings: DataSettings, console: Console) -> int:
    """The check of a data set without an inventory: its reader finds the first error."""
    try:
        splits = DATASETS[name].read(folder, settings)
    except DataError as error:
        console.print(f"{error}\nThis is the first error; there may be more, since this data set has no `inventory`.")
        return 1
    console.print("All files can be read. Images in each part:\n")
    for part in PARTS:
        split = getattr(splits, part)
        of_domains = [f"{task.key} {len(source):,}" for task, source in zip(DATASETS[name].tasks, split, strict=False)]
        shown = ", ".join(of_domains) if len(split) > 1 else f"{len(split[0]):,}"
        console.print(f"{part:<12}{shown}")
    return 0


def _print(report: Report, console: Console) -> None:
    table = Table("checked", "expected", "found", "verdict", box=None, pad_edge=False)
    for row in report.rows:
        table.add_row(row.what, row.expected, row.found, Text(row.verdict, style=COLOURS[row.verdict]))
    console.print(table)
    for title, sentences in (("Errors", report.errors), ("Odd, but usable", report.remarks)):
        if sentences:
            console.print(f"\n{title}, {len(sentences)} in all:")
            console.print("\n".join(sentences[:MOST_PRINTED]))
        if len(sentences) > MOST_PRINTED:
            console.print(f"... and {len(sentences) - MOST_PRINTED} more.")
    console.print(f"\n{report.conclusion}")


def _prepare(arguments: Namespace, console: Console) -> int:
    preparation = Preparation(arguments.workers, cache=arguments.cache_dir)
    return prepare(arguments.name, arguments.data_root, preparation, arguments.image_size, console)


def _show(arguments: Namespace, console: Console) -> int:
    from bench.inspection.contact_sheet import write_sheet  # imports matplotlib, which is slow

    name = lookup(DATASETS, "data set", arguments.name)
    info = DATASETS[name]
    folder = obtain(name, arguments.data_root)
    settings = DataSettings(info.image_size)
    with (
        DecodingProgress(console, only_bars=True) as progress,
        preparing(Preparation(report=progress, cache=arguments.cache_dir)),
    ):
        splits = info.read(folder, settings)
    classes = info.inventory(folder, settings).classes if info.inventory else ()
    path = arguments.out or inside(ROOT / "reports" / "data", f"{name}-{arguments.part}.png")
    title = f"{info.label}, {arguments.part}, seed {arguments.seed}"
    write_sheet(info, getattr(splits, arguments.part), classes, arguments.seed, title, path)
    console.print(f"Drawn: {path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
