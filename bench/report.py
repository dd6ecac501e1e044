"""Makes tables and figures from the records of runs and of measured steps: python -m bench.report"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from bench import ROOT
from bench.cli.options import cores, folder, guarded, lookup_name, plain_console, positive, whole_number
from bench.cli.paper_sources import paper_sources
from bench.cli.parser import CommandParser
from bench.cli.planned_rows import planned_tables
from bench.records.names import inside
from bench.records.record import Record
from bench.records.speed import SpeedRecord, read_speeds
from bench.records.store import RecordError
from bench.records.trial_seeds import are_trials, read_unmixed
from bench.reporting.index import SPEED
from bench.reporting.options import MEANS, NothingToShow, Options
from bench.reporting.output_folder import alone_in, new_files_in
from bench.reporting.paper.layout import LABELS
from bench.reporting.written_files import put_in_place, read_list
from bench.spec.lookup import UnknownName, lookup
from bench.spec.study import StudyError, load_study, results_of

_Read = TypeVar("_Read")
MOST_DECIMALS = 8
# Options of the usual reports that the paper's tables have no use for, and what is expected instead.
_NOT_BESIDE_PAPER = {
    "data": "no data sets beside --paper, whose tables name their own",
    "methods": "no rows beside --paper, whose tables have the paper's rows and all others",
    "exclude": "no rows beside --paper, whose tables have the paper's rows and all others",
    "order": "no order beside --paper, whose tables have the paper's",
    "decimals": "no decimals beside --paper, whose tables have as many as the paper's",
    "per_task": "no tables of gains beside --paper, which has those of the paper",
}
_ROWS = "rows to show, by the key or the label of a method or the label of a row (default: all)"


def main(argv: Sequence[str] | None = None) -> int:
    """0, or 2 if there is nothing to report or a record is unreadable."""
    parser = _parser()
    options = parser.parse_args(argv)
    if options.paper:
        for name, reason in _NOT_BESIDE_PAPER.items():
            if getattr(options, name) != parser.get_default(name):
                parser.error(f"--{name.replace('_', '-')}: expected {reason}")
    make = _report_paper if options.paper else _report
    return guarded(lambda: make(options), RecordError, UnknownName, StudyError, NothingToShow)


def _report(options: Namespace) -> int:
    from bench.reporting.reports import write_reports  # scipy and matplotlib take a while to import

    study = load_study(options.study) if options.study else None
    results = options.results or results_of(study)
    out = options.out or inside(ROOT / "reports", *(study.folders if study else ()))
    records, speeds = _read(results)
    data = _looked_up("data set", [record.data for record in records], options.data)
    chosen = [record for record in records if record.data in data or not data]
    tasks = _looked_up("task", [task.key for record in chosen for task in record.tasks], options.tasks)
    with alone_in(out) as alone, new_files_in(out, alone) as new:
        earlier = read_list(out)
        files = write_reports(
            results,
            records,
            new,
            earlier=out,
            options=_shown(options),
            data=data,
            tasks=tasks,
            tables_of=partial(planned_tables, study) if study and study.tables else None,
            speeds=speeds,
            processes=options.jobs,
        )
        changes = put_in_place(out, new, files, earlier, [results], lambda name: _is_of_others(name, data))
    _print_files(changes.files, len(chosen), len(speeds))
    if are_trials(records):
        _print_lines(["All runs are trials of `bench.tune`, which settings were chosen by: report others."])
    _print_lines(changes.sentences)
    return 0


def _report_paper(options: Namespace) -> int:
    from bench.reporting.paper.report import write_paper_report  # as above

    methods, ablations = paper_sources(options.study, options.results)
    keys = [task.key for record in methods.records if record.data in LABELS for task in record.tasks]
    tasks = _looked_up("task", keys, options.tasks)
    out = options.out or inside(ROOT / "reports", "paper")
    shown = Options(spread="ci") if options.ci else MEANS  # the paper prints means alone
    with alone_in(out) as alone, new_files_in(out, alone) as new:
        earlier = read_list(out)
        written = write_paper_report(methods, ablations, new, earlier=out, options=shown, tasks=tasks)
        changes = put_in_place(out, new, written.files, earlier, [methods.results, ablations.results])
    console = plain_console()
    console.print(f"Tables 1 to 4 and Figure 2 of the paper: {changes.files[0]}", style="bold")
    for title, sentences in written.missing.items():
        console.print(f"  {title}: {' '.join(sentences)}")
    _print_lines(changes.sentences)
    return 0


def _parser() -> CommandParser:
    parser = CommandParser(prog="python -m bench.report", description=__doc__)
    parser.add_argument(
        "--study",
        type=lookup_name,
        metavar="NAME",
        help="the tables of a study, or of the .yaml file of one",
    )
    parser.add_argument(
        "--paper",
        action="store_true",
        help="the tables and the figure of Ye et al. (IJCAI 2023) instead, ours beside the published numbers; --study "
        "then names the study of their rows: of Table 4, if it has a table `table4`, else of the others",
    )
    parser.add_argument("--results", type=folder, metavar="DIR", help="folder of the records (default: results)")
    parser.add_argument("--out", type=folder, metavar="DIR", help="folder for the reports (default: reports)")
    beside = parser.add_mutually_exclusive_group()
    beside.add_argument("--ci", action="store_true", help="print 95 %% intervals beside means, not standard deviations")
    beside.add_argument("--means", action="store_true", help="print means alone, as --paper does unless --ci is given")
    parser.add_argument(
        "--decimals", type=whole_number(0, MOST_DECIMALS), metavar="N", help="decimals of scores (default: by unit)"
    )
    parser.add_argument("--per-task", action="store_true", help="add tables of every row's gain on every task")
    parser.add_argument("--methods", nargs="+", type=lookup_name, default=[], metavar="ROW", help=_ROWS)
    parser.add_argument(
        "--exclude", nargs="+", type=lookup_name, default=[], metavar="ROW", help="rows to leave out, named likewise"
    )
    parser.add_argument(
        "--order", choices=("study", "score", "name"), default="study", help="of rows (default: as in the study)"
    )
    parser.add_argument(
        "--data",
        nargs="+",
        type=lookup_name,
        default=[],
        metavar="NAME",
        help="update the tables and figures of these data sets only; the reports of others stay",
    )
    parser.add_argument(
        "--tasks", nargs="+", type=lookup_name, default=[], metavar="NAME",
        help="draw the positions of these tasks only",
    )  # fmt: skip
    parser.add_argument(
        "--jobs", type=positive, default=cores(), metavar="N",
        help="processes that analyse and draw (default: one per core)",
    )  # fmt: skip
    return parser


def _shown(options: Namespace) -> Options:
    """What to show, with names as they were given."""
    return Options(
        spread="ci" if options.ci else "none" if options.means else "sd",
        decimals=options.decimals,
        per_task=options.per_task,
        methods=tuple(options.methods),
        exclude=tuple(options.exclude),
        order=options.order,
    )


def _read(results: Path) -> tuple[list[Record], list[SpeedRecord]]:
    """Records of runs and measurements of steps; either may be missing, but not both."""
    records, errors = _or_error(read_unmixed, results)
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


def _is_of_others(name: str, data: Sequence[str]) -> bool:
    """Whether a file of an earlier report is about other data sets than the chosen ones, so that it stays."""
    folder, *rest = name.split("/")
    return bool(data and rest) and folder not in (*data, SPEED)


def _print_files(files: Sequence[Path], n_runs: int, n_speeds: int) -> None:
    console = plain_console()
    measured = f" and {n_speeds} measurement{'s' if n_speeds != 1 else ''} of steps" if n_speeds else ""
    console.print(f"Tables and figures of {n_runs} runs{measured}: {files[0]}", style="bold")
    console.print(f"All of it on one page, to open in a browser: {files[1]}")
    for place in dict.fromkeys(path.parent for path in files if path.suffix == ".tex"):
        console.print(f"  {place}: {', '.join(path.name for path in files if path.parent == place)}")


def _print_lines(lines: Sequence[str]) -> None:
    for line in lines:
        plain_console().print(line)


if __name__ == "__main__":
    raise SystemExit(main())
