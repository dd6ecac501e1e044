"""Makes tables and figures from the records of runs and of measured steps: python -m bench.report"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from bench import ROOT
from bench.cli.options import folder, guarded, lookup_name, plain_console
from bench.cli.parser import CommandParser
from bench.records.names import inside
from bench.records.record import Record
from bench.records.speed import SpeedRecord, read_speeds
from bench.records.store import RecordError, read_records
from bench.reporting.index import SPEED
from bench.reporting.planned import PlannedRow, PlannedTable
from bench.reporting.reports import write_reports
from bench.spec.lookup import UnknownName, lookup
from bench.spec.study import Study, StudyError, StudyRow, load_study, results_of

_Read = TypeVar("_Read")


def main(argv: Sequence[str] | None = None) -> int:
    """0, or 2 if there is nothing to report or a record is unreadable."""
    options = _parser().parse_args(argv)
    return guarded(lambda: _report(options), RecordError, UnknownName, StudyError)


def _report(options: Namespace) -> int:
    study = load_study(options.study) if options.study else None
    results = options.results or results_of(study)
    out = options.out or inside(ROOT / "reports", *(study.folders if study else ()))
    records, speeds = _read(results)
    data = _looked_up("data set", [record.data for record in records], options.data)
    chosen = [record for record in records if record.data in data or not data]
    tasks = _looked_up("task", [task.key for record in chosen for task in record.tasks], options.tasks)
    files = write_reports(
        results,
        records,
        out,
        spread=options.spread,
        data=data,
        tasks=tasks,
        tables_of=partial(planned_tables, study) if study and study.tables else None,
        speeds=speeds,
    )
    _print_files(files, len(chosen), len(speeds))
    return 0


def _parser() -> CommandParser:
    parser = CommandParser(prog="python -m bench.report", description=__doc__)
    parser.add_argument(
        "--study",
        type=lookup_name,
        metavar="NAME",
        help="the tables of a study, or of the .yaml file of one",
    )
    parser.add_argument("--results", type=folder, metavar="DIR", help="folder of the records (default: results)")
    parser.add_argument("--out", type=folder, metavar="DIR", help="folder for the reports (default: reports)")
    parser.add_argument("--spread", action="store_true", help="print the standard deviation over seeds beside means")
    parser.add_argument(
        "--data",
        nargs="+",
        type=lookup_name,
        default=[],
        metavar="NAME",
        help="update the tables and figures of these data sets only; the reports of others stay",
    )
    parser.add_argument(
        "--tasks",
        nargs="+",
        type=lookup_name,
        default=[],
        metavar="NAME",
        help="draw the positions of these tasks only",
    )
    return parser


def _read(results: Path) -> tuple[list[Record], list[SpeedRecord]]:
    """Records of runs and measurements of steps; either may be missing, but not both."""
    records, errors = _or_error(read_records, results)
    speeds, others = _or_error(read_speeds, results / SPEED)
    if errors or others:
        raise RecordError("\n".join((*errors, *others)))
    if not records and not speeds:
        example = "python -m bench.run --method all --data digits"
        raise RecordError(f"{results}: expected records of runs, found none; run `{example}` first.")
    return records, speeds


def _or_error(read: Callable[[Path], list[_Read]], folder: Path) -> tuple[list[_Read], list[str]]:
    """What is read, or the message of the error, so that the errors of several folders are named at once."""
    try:
        return read(folder), []
    except RecordError as error:
        return [], [str(error)]


def _looked_up(kind: str, known: Sequence[str], names: Sequence[str]) -> list[str]:
    """The names as the records have them."""
    return [lookup(dict.fromkeys(known), f"{kind} among the records", name) for name in names]


def planned_tables(study: Study, data: str) -> list[PlannedTable]:
    """The study's tables for a data set, each row with all the runs that it may show.

    Raises:
        UnknownName, SpecError, StudyError: a row names or sets what doesn't exist.
    """
    return [
        PlannedTable(
            table.name,
            table.title,
            tuple(_planned_row(row, study.rows, data) for row in map(study.complete, table.rows) if row.is_for(data)),
        )
        for table in study.tables
    ]


def _planned_row(row: StudyRow, rows: Sequence[StudyRow], data: str) -> PlannedRow:
    # The only import of torch in a report: the overrides of a row are resolved against the registries of methods and
    # data sets. Reports without such a study read records alone and also run where torch is not installed.
    from bench.spec.planning import specs_of

    sources = row.sources(rows, data) if row.twin_of else [row]
    specs = [spec for source in sources for spec in specs_of(source, data, seed=0)]
    trials = row.trials or max((source.trials for source in sources), default=0)
    return PlannedRow(row.label, tuple((spec.method, spec.overrides) for spec in specs), trials, row.twin_of)


def _print_files(files: Sequence[Path], n_runs: int, n_speeds: int) -> None:
    console = plain_console()
    measured = f" and {n_speeds} measurement{'s' if n_speeds != 1 else ''} of steps" if n_speeds else ""
    console.print(f"Tables and figures of {n_runs} runs{measured}: {files[0]}", style="bold")
    console.print(f"All of it on one page, to open in a browser: {files[1]}")
    for place in dict.fromkeys(path.parent for path in files if path.suffix == ".tex"):
        console.print(f"  {place}: {', '.join(path.name for path in files if path.parent == place)}")


if __name__ == "__main__":
    raise SystemExit(main())
