"""Lists, shows, compares, deletes, exports and merges runs: python -m bench.runs list"""

from __future__ import annotations

import sys
import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.cli.options import add_data_root, folder, guarded, lookup_name, plain_console, random_seed
from bench.cli.output import say
from bench.cli.parser import BAD_INPUT, CommandParser
from bench.exchange.commands import add_merge, add_sources, check, export_file, merge
from bench.exchange.shared_runs import ExchangeError
from bench.inventory.details import description, difference
from bench.inventory.listing import as_csv, as_json, as_table
from bench.inventory.removal import remove_run, why_not_removed
from bench.inventory.selection import Filters, NoSuchRun, run_named, runs_named, selected
from bench.inventory.states import STATES, FoundRun, find_runs, look_at
from bench.inventory.study_status import study_runs, summary
from bench.records.frames import LeftOut
from bench.records.parquet import ParquetUnavailable, write_parquet
from bench.records.store import RecordError, read_run, without_collector
from bench.spec.lookup import UnknownName
from bench.spec.request import PlanError
from bench.spec.study import Study, StudyError, load_study, results_of
from datasets.contract import DataError

FAILED = 1
_RUN = "the folder of a run, or [data/]variant[/seed], as far as it is clear"


def main(argv: Sequence[str] | None = None) -> int:
    """0. 1: a run that should be deleted is still there. 2: bad input, or a bad record, which is named."""
    arguments = _parser().parse_args(argv)
    command: Callable[[Namespace], int] = arguments.command
    errors = (RecordError, UnknownName, StudyError, PlanError, DataError, NoSuchRun, ParquetUnavailable, ExchangeError)
    with without_collector():
        return guarded(lambda: command(arguments), *errors)


def _parser() -> CommandParser:
    parser = CommandParser(prog="python -m bench.runs", description=__doc__)
    commands = parser.add_subparsers(dest="name", required=True, metavar="command")
    listing = _command(commands, "list", _list, "a line for each run")
    form = listing.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as JSON, for scripts")
    form.add_argument("--csv", action="store_true", help="as CSV, for scripts")
    showing = _command(commands, "show", _show, "everything about one run")
    comparing = _command(commands, "diff", _diff, "what differs between two runs")
    removing = _command(commands, "rm", _remove, "delete the folders of runs")
    status = _command(commands, "status", _status, "what is done of a study, or of all runs, and what is not")
    about = "finished runs as one file that others can check and merge; or all their numbers as Parquet files"
    exporting = _command(commands, "export", _export, about)
    checking = _command(
        commands, "check", check, "what other results hold; whether they are intact and belong together"
    )
    add_sources(checking)
    add_merge(_command(commands, "merge", merge, "copy the runs of other results, all or none"))
    for command in (listing, removing, exporting, status):
        _add_names(command)
    for command in (listing, removing, exporting):
        _add_filters(command)
    for command in (listing, removing, exporting, status):
        command.add_argument("--study", type=lookup_name, metavar="NAME|FILE", help="the runs of this study")
        add_data_root(command)
    showing.add_argument("run", type=lookup_name, metavar="RUN", help=_RUN)
    for name in ("first", "second"):
        comparing.add_argument(name, type=lookup_name, metavar="RUN", help=_RUN)
    removing.add_argument(
        "run", nargs="*", type=lookup_name, metavar="RUN", help=f"{_RUN}; or a folder of several runs, or a data set"
    )
    removing.add_argument("--yes", action="store_true", help="don't ask")
    removing.add_argument("--dry-run", action="store_true", help="list the runs without deleting them")
    target = exporting.add_mutually_exclusive_group(required=True)
    target.add_argument("file", nargs="?", type=folder, metavar="FILE", help="the file, as runs.zip")
    target.add_argument("--parquet", type=folder, metavar="DIR", help="the folder of the Parquet files")
    return parser


def _command(commands, name: str, run: Callable[[Namespace], int], purpose: str) -> ArgumentParser:  # type: ignore[no-untyped-def]
    parser: ArgumentParser = commands.add_parser(name, help=purpose, description=purpose)
    if name not in ("check", "merge"):  # which name the folders that they read
        parser.add_argument("--results", type=folder, metavar="DIR", help="folder of the records (default: results)")
    parser.set_defaults(command=run)
    return parser


def _add_names(parser: ArgumentParser) -> None:
    about = "keys or labels of methods, or folders of rows"
    parser.add_argument("--data", nargs="+", type=lookup_name, default=[], metavar="NAME", help="these data sets only")
    parser.add_argument("--method", nargs="+", type=lookup_name, default=[], metavar="NAME", help=about)


def _add_filters(parser: ArgumentParser) -> None:
    known = f"any of {', '.join(STATES)}"
    parser.add_argument("--seeds", nargs="+", type=random_seed, default=[], metavar="N", help="these seeds only")
    parser.add_argument("--status", nargs="+", choices=STATES, default=[], metavar="STATUS", help=known)


def _results(arguments: Namespace) -> Path:
    results: Path = arguments.results or results_of(_study(arguments))
    return results


def _study(arguments: Namespace) -> Study | None:
    name = getattr(arguments, "study", None)  # not all commands have it
    return load_study(name) if name else None


def _filtered(arguments: Namespace, errors: list[str]) -> list[FoundRun]:
    """The runs that the options leave. Bad records and unreadable folders are added to `errors`."""
    study, results = _study(arguments), _results(arguments)
    if study:
        found = study_runs(study, arguments.data, arguments.data_root, results).found
        errors += [run.error for run in found if run.error]
    else:
        found = find_runs(results, errors)
    return selected(found, Filters(arguments.data, arguments.method, arguments.status, arguments.seeds))


def _ending(errors: Sequence[str]) -> int:
    """Names what is bad, after what is good was shown; the exit code."""
    for error in errors:
        say(error)
    return BAD_INPUT if errors else 0


def _list(arguments: Namespace) -> int:
    errors: list[str] = []
    runs = _filtered(arguments, errors)
    if arguments.json or arguments.csv:
        print(as_json(runs) if arguments.json else as_csv(runs))
    else:
        console = plain_console()
        console.print(as_table(runs) if runs else f"No runs in {_results(arguments)}.")
    return _ending(errors)


def _show(arguments: Namespace) -> int:
    run = look_at(run_named(arguments.run, _results(arguments)))
    if run is None:
        raise NoSuchRun(f"Expected a run, found an empty folder: {arguments.run}.")
    plain_console().print(description(run))
    return _ending([run.error] if run.error else [])


def _diff(arguments: Namespace) -> int:
    records, names = [], []
    for text in (arguments.first, arguments.second):
        place = run_named(text, _results(arguments))
        record = read_run(place)
        if record is None:
            raise NoSuchRun(f"{place}: expected a run with a record, found none; it is not finished.")
        records.append(record)
        names.append("/".join(place.parts[-3:]))
    plain_console().print(difference(records[0], records[1], (names[0], names[1])))
    return 0


def _remove(arguments: Namespace) -> int:
    results, errors = _results(arguments), list[str]()
    chosen = _named_and_filtered(arguments, errors)
    others = [error for error in errors if error not in {run.error for run in chosen}]
    console = plain_console()
    refused = {run.name: reason for run in chosen if (reason := _why_kept(run, results))}
    for reason in refused.values():
        console.print(reason)
    chosen = [run for run in chosen if run.name not in refused]
    console.print(as_table(chosen) if chosen else "Nothing to delete.")
    if arguments.dry_run:
        console.print(f"Would delete {_runs(len(chosen))}.")
        return _ending(others)
    if chosen and not arguments.yes and not _confirmed(len(chosen), results):
        console.print("Nothing was deleted.")
        return FAILED
    kept = [reason for run in chosen if (reason := remove_run(run.folder, results))]
    for line in kept:
        console.print(line)
    if chosen:
        console.print(f"Deleted {_runs(len(chosen) - len(kept))}.")
    return _ending(others) or (FAILED if kept or refused else 0)


def _named_and_filtered(arguments: Namespace, errors: list[str]) -> list[FoundRun]:
    options = ("run", "data", "method", "seeds", "status", "study")
    if not any(getattr(arguments, option) for option in options):
        raise NoSuchRun("Expected RUN, --data, --method, --seeds, --status or --study, found none; say what to delete.")
    found = _filtered(arguments, errors)
    named = {place for text in arguments.run for place in runs_named(text, _results(arguments))}
    return [run for run in found if run.folder in named or not arguments.run]


def _why_kept(run: FoundRun, results: Path) -> str:
    """Why a run is not deleted; "" if it is."""
    return (
        f"{run.folder}: {run.holder.name} trains this run; it stays."
        if run.holder
        else why_not_removed(run.folder, results)
    )


def _confirmed(count: int, results: Path) -> bool:
    """Whether the person says yes. Without a terminal nobody can."""
    if not sys.stdin.isatty():
        raise NoSuchRun(f"Expected --yes where nobody can be asked whether to delete {_runs(count)}, found none.")
    return input(f"Delete {_runs(count)} of {results}? [y/N] ").strip().lower() in ("y", "yes")


def _runs(count: int) -> str:
    return f"{count} run{'s' * (count != 1)}"


def _status(arguments: Namespace) -> int:
    errors: list[str] = []
    console = plain_console()
    study = _study(arguments)
    if study is None:
        found = selected(find_runs(_results(arguments), errors), Filters(arguments.data, arguments.method))
        console.print(summary(found))
        return _ending(errors)
    runs = study_runs(study, arguments.data, arguments.data_root, _results(arguments))
    found = selected(runs.found, Filters(methods=arguments.method))
    for remark in runs.remarks:
        console.print(remark)
    console.print(summary(found, *([runs.missing, runs.waiting] if not arguments.method else [])))
    return _ending([run.error for run in found if run.error])


def _export(arguments: Namespace) -> int:
    if arguments.file:
        errors: list[str] = []
        chosen = _filtered(arguments, errors)
        if errors:
            raise RecordError("\n".join(errors))
        return export_file(arguments.file, _results(arguments), chosen)
    if unused := [name for name in ("study", "seeds", "status") if getattr(arguments, name)]:
        raise NoSuchRun(f"--{unused[0]}: expected only --data and --method with --parquet, found it.")
    results = _results(arguments)
    data, methods = _exact_names(results, arguments.data, arguments.method)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", LeftOut)
        written = write_parquet(results, arguments.parquet, data, methods)
    for path, rows in written.items():
        plain_console().print(f"{path}: {rows:,} rows")
    left_out = [str(one.message) for one in caught if issubclass(one.category, LeftOut)]
    return _ending(list(dict.fromkeys(left_out)))


def _exact_names(results: Path, data: Sequence[str], methods: Sequence[str]) -> tuple[list[str], list[str]]:
    """The data sets and the folders of rows that are meant, as they are written; none where none are asked for."""
    if not data and not methods:
        return [], []
    found = selected(find_runs(results, []), Filters(data, methods))  # bad records are named when they are exported
    named = (dict.fromkeys(run.data for run in found), dict.fromkeys(run.variant for run in found))
    return list(named[0]) if data else [], list(named[1]) if methods else []


if __name__ == "__main__":
    raise SystemExit(main())
