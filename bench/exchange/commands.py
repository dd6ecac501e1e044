"""The commands of bench.runs that exchange runs: merge, export to one file, and check."""

from __future__ import annotations

import hashlib
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

from bench.cli.options import folder, plain_console
from bench.exchange.agreement import disagreements
from bench.exchange.archive import opened_archive, write_archive
from bench.exchange.copying import write_merge
from bench.exchange.data_agreement import unmarked_data
from bench.exchange.finding import find_shared
from bench.exchange.manifest import DataEntry, manifest_of
from bench.exchange.merging import plan_merge, reported_trials
from bench.exchange.registered import other_defaults
from bench.exchange.shared_runs import ExchangeError, SharedRun, Source
from bench.exchange.target import target_folder
from bench.inventory.states import FoundRun
from bench.records.folder_lock import only_writer
from bench.spec.study import results_of

_MOST_LEFT_OUT = 40
_BUSY = "expected no other merge into it, found one that is not over; wait for it, then give the same command again."


def add_sources(parser: ArgumentParser) -> None:
    """Adds the folders and files that a command reads."""
    parser.add_argument(
        "source", nargs="+", type=folder, metavar="DIR|FILE", help="folders of results, or files of `bench.runs export`"
    )


def add_merge(parser: ArgumentParser) -> None:
    """Adds the options of merge."""
    add_sources(parser)
    parser.add_argument("--into", type=folder, metavar="RESULTS", help="folder of the records (default: results)")
    parser.add_argument("--dry-run", action="store_true", help="list the runs without copying them")


@contextmanager
def _opened(paths: Sequence[Path]) -> Iterator[list[tuple[Path, Source]]]:
    """What each of these folders and files has."""
    with ExitStack() as opened:
        yield [
            (path, opened.enter_context(opened_archive(path)) if path.is_file() else find_shared(path))
            for path in paths
        ]


def merge(arguments: Namespace) -> int:
    """Copies the runs of other folders and files into one folder of results; the exit code.

    Raises:
        ExchangeError: one of them may not be merged; then nothing is written.
    """
    into, console = target_folder(arguments.into or results_of(None)), plain_console()
    for path in arguments.source:
        if path.resolve() == into:
            raise ExchangeError(f"{path}: expected another folder than {into}, found the same one.")
    with _opened(arguments.source) as sources:
        _print_sources(sources)
        if not any(source.runs or source.errors for _, source in sources):
            raise ExchangeError("Expected finished runs to merge, found none.")
        with nullcontext() if arguments.dry_run else only_writer(into, _BUSY):
            plan = plan_merge([source for _, source in sources], into)
            for remark in plan.remarks:
                console.print(remark)
            if not arguments.dry_run:
                write_merge(plan, into)
        added = plan.added
        for run in added if arguments.dry_run else ():
            console.print(f"would add {run.name}")
        verb = "Would merge" if arguments.dry_run else "Merged"
        console.print(
            f"{verb} {_runs(len(added))} into {into}; {_runs(len(plan.same))} already there with the same content."
        )
    return 0


def _print_sources(sources: Sequence[tuple[Path, Source]]) -> None:
    console = plain_console()
    for _, source in sources:
        console.print(f"{source.name}: {_runs(len(source.runs))} finished.")
        for line in source.left_out[:_MOST_LEFT_OUT]:
            console.print(f"left out: {line}")
        if more := source.left_out[_MOST_LEFT_OUT:]:
            console.print(f"left out: … and {len(more)} more.")


def _runs(count: int) -> str:
    return f"{count:,} run{'s' * (count != 1)}"


def check(arguments: Namespace) -> int:
    """Says what folders or files hold, and whether each is intact and belongs together; the exit code.

    Raises:
        ExchangeError: one of them is not.
    """
    console = plain_console()
    with _opened(arguments.source) as sources:
        _print_sources(sources)
        errors = []
        for path, source in sources:
            for name, entry in manifest_of(source.runs, source.trial_seeds).data.items():
                console.print(f"  {name}: {_described(entry)}")
            if path.is_file():
                console.print(f"  SHA-256 of the file: {hashlib.sha256(path.read_bytes()).hexdigest()}")
            for remark in _remarks(source.runs):
                console.print(f"  {remark}")
            own = [*source.errors, *disagreements(source.runs, []), *reported_trials([source], source.runs)]
            if not own and not source.runs:
                own = [f"{source.name}: expected finished runs to check, found none."]
            if not own:
                console.print(f"{source.name}: intact, and its runs belong together.")
            errors += own
    if errors:
        raise ExchangeError("\n".join(errors))
    return 0


def _remarks(runs: Sequence[SharedRun]) -> list[str]:
    records = [run.record for run in runs]
    return [*unmarked_data(records), *other_defaults(records)]


def _described(entry: DataEntry) -> str:
    statuses = ", ".join(f"{count} {status}" for status, count in entry.runs.items())
    versions = ", ".join(f"{part} {'/'.join(map(str, found))}" for part, found in entry.versions.items())
    marks = [
        f"{part} {found[0] if len(found) == 1 else f'{len(found)} different ones'}"
        for part, found in entry.fingerprints.items()
    ]
    seeds = ", ".join(map(str, entry.seeds))
    return f"{statuses}; {len(entry.rows)} rows; seeds {seeds}; versions: {versions}; data: {', '.join(marks)}"


def export_file(path: Path, results: Path, chosen: Sequence[FoundRun]) -> int:
    """Writes the finished ones of these runs into one file; the exit code.

    Raises:
        ExchangeError: there is none, a file of one is bad, or they don't belong together.
    """
    if path.exists():
        raise ExchangeError(f"{path}: expected no file of that name, found one; delete it, or choose another name.")
    wanted, console = {run.folder for run in chosen}, plain_console()
    source = find_shared(results, only=wanted)
    runs = source.runs
    errors = [*source.errors, *disagreements(runs, []), *reported_trials([source], runs)]
    errors += [f"{results}: expected a folder of runs, found that of trials."] if source.of_trials else []
    if errors:
        raise ExchangeError("\n".join(errors))
    if not runs:
        raise ExchangeError(f"{results}: expected finished runs to export, found none.")
    write_archive(path, runs, source.trial_seeds)
    for remark in _remarks(runs):
        console.print(remark)
    written = {run.folder for run in runs}
    for left in (run for run in chosen if run.folder not in written):
        console.print(f"left out: {left.name} is {left.state}.")
    size = path.stat().st_size
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    console.print(f"{path}: {_runs(len(runs))}, {size:,} bytes, SHA-256 {digest}")
    return 0
