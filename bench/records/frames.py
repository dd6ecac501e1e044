"""Records, curves, positions and outcomes as tables of pandas in tidy form, for people who plot themselves. No torch.

import bench
runs = bench.load_runs(data="digits")
runs[runs.split == "test"].groupby("label").value.mean()
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from bench import ROOT
from bench.records.again import read_whole_run
from bench.records.items import read_items
from bench.records.plain_text import printable
from bench.records.reading import Damaged, is_there, read_text
from bench.records.record import Record
from bench.records.store import CURVE, POSITIONS, RecordError, run_folders
from bench.records.tables import read_table

if TYPE_CHECKING:
    from pandas import DataFrame

Names: TypeAlias = str | Sequence[str] | None  # one or several; None for all
Folder: TypeAlias = str | Path | None  # None for the folder `results` of the checkout

RUN = ("data", "variant", "method", "label", "seed")
RUNS = (
    *RUN, "status", "reason", "epoch", "epochs", "steps", "seconds", "step_seconds", "peak_memory_mib",
    "idle_memory_mib", "commit", "split", "task", "metric", "unit", "direction", "value",
)  # fmt: skip
POSITION_COLUMNS = (*RUN, "step", "task", "position")
ITEM_COLUMNS = (*RUN, "task", "metric", "item", "value")
_REPEATED = {*RUN, "status", "reason", "commit", "split", "task", "metric", "unit", "direction"}  # stored once each


class LeftOut(UserWarning):
    """A file that can't be read, and is not in the table; the message says which and why."""


def load_runs(results: Folder = None, data: Names = None, method: Names = None) -> DataFrame:
    """A row per run, split ("validation", "test", "last_test"), task and metric, with columns RUNS.

    A run without scores has one row, whose `value` is NaN. Values are as recorded: an accuracy of 93 % is 0.93. `epoch`
    is the reported one, of the task where each has its own. Settings that differ from the defaults have columns of
    their dotted names after the others.

    results: a folder of records. data, method: keep only runs with these keys; or labels of methods, or variants.
    Files that can't be read are named by a warning (LeftOut) and are not in the table.

    Raises:
        RecordError: the folder has no runs, or no run has one of the names.
    """
    import pandas

    rows: list[tuple[Any, ...]] = []
    overrides: list[dict[str, Any]] = []
    for _, record in _runs(results, data, method):
        found = list(_score_rows(record))
        rows += found
        overrides += [record.overrides] * len(found)
    frame = _frame(rows, RUNS)
    names = list(dict.fromkeys(key for one in overrides for key in one))
    settings = {name: [_cell(one.get(name)) for one in overrides] for name in names if name not in RUNS}
    return pandas.concat([frame, pandas.DataFrame(settings, index=frame.index)], axis=1) if settings else frame


def load_curves(results: Folder = None, data: Names = None, method: Names = None) -> DataFrame:
    """A row per run and epoch: the columns that name a run (RUN), then those of curve.csv. Arguments as of `load_runs`.

    Runs of other tasks have NaN in the columns of a task that they don't have.
    """

    return _written_tables(CURVE, "epoch", _runs(results, data, method))


def load_positions(results: Folder = None, data: Names = None, method: Names = None) -> DataFrame:
    """A row per run, step and task of architectures with positions: POSITION_COLUMNS. Arguments as of `load_runs`."""
    wide = _written_tables(POSITIONS, "step", _runs(results, data, method))
    long = wide.melt([*RUN, "step"], var_name="task", value_name="position")
    return long.dropna(subset="position").reset_index(drop=True)  # tasks of other runs


def load_items(results: Folder = None, data: Names = None, method: Names = None) -> DataFrame:
    """A row per run, task, metric and item of the test split, in its order: ITEM_COLUMNS. Arguments as of `load_runs`.

    value: 1.0 or 0.0, whether the prediction of the selected epoch is right; or a metric of one image, NaN where it has
    nothing to measure. Ten runs on CelebA have 8 million rows: name what you need.
    """
    import pandas

    def read(folder: Path, record: Record) -> DataFrame | None:
        keys = {task.key: [metric.key for metric in task.metrics] for task in record.tasks}
        parts = []
        for task, values in read_items(folder, record).items():
            columns = values.reshape(len(values), -1).astype(float)
            for place, metric in enumerate(keys[task][: columns.shape[1]]):
                own = {"task": task, "metric": metric, "item": range(len(values)), "value": columns[:, place]}
                parts.append(pandas.DataFrame(own))
        return pandas.concat(parts, ignore_index=True) if parts else None

    return _tables(read, _runs(results, data, method), ITEM_COLUMNS)


def _runs(results: Folder, data: Names, method: Names) -> Iterator[tuple[Path, Record]]:
    """The folders and records of the runs that are asked for.

    Raises:
        RecordError: there are no runs, or none of a name; of methods this is known, and raised, after the last run.
    """
    errors: list[str] = []
    known: set[str] = set()
    wanted, methods = _names(data), _names(method)
    place = Path(results) if results is not None else ROOT / "results"
    folders = run_folders(place, errors)
    if not folders and not errors:
        raise RecordError(f"{place}: expected a folder with runs, found none.")
    _require(place, "data set", wanted, {folder.parts[-3] for folder in folders})
    for folder in (folder for folder in folders if wanted is None or folder.parts[-3] in wanted):
        known.add(folder.parts[-2])
        try:
            record = read_whole_run(folder)
        except RecordError as error:
            errors.append(str(error))
            continue
        if record is not None:
            own = {record.method, record.labels.method, record.variant}
            known |= own
            if methods is None or own & methods:
                yield folder, record
    _warn(errors)
    _require(place, "method", methods, known)


def _require(place: Path, kind: str, wanted: set[str] | None, known: set[str]) -> None:
    """Raises RecordError for a name that no run has."""
    if unknown := sorted((wanted or set()) - known):
        names, there = (", ".join(of) for of in (map(repr, unknown), sorted(known)))
        raise RecordError(f"{place}: expected runs of the {kind} {names}, found none; known: {there or 'none'}.")


def _names(names: Names) -> set[str] | None:
    return {names} if isinstance(names, str) else None if names is None else set(names)


def _warn(errors: Iterable[str]) -> None:
    for error in errors:
        warnings.warn(f"left out: {printable(error)}", LeftOut, stacklevel=3)


def _identity(record: Record) -> tuple[Any, ...]:
    return record.data, record.variant, record.method, record.labels.method, record.seed


def _score_rows(record: Record) -> Iterator[tuple[Any, ...]]:
    selected, of_task = record.selected, record.selected_by_task
    timing = record.step_seconds.median if record.step_seconds else None
    commit = str(record.environment.get("commit", ""))
    memory = (record.peak_memory_mib, record.idle_memory_mib)
    ending = (record.epochs, record.steps, record.seconds, timing, *memory, commit)
    start = (*_identity(record), record.status, record.reason)
    splits = {"validation": record.validation, "test": record.test, "last_test": record.last_test}
    epoch = selected.epoch if selected else None
    scored = False
    for split, scores in splits.items():
        for task in record.tasks:
            own = of_task[task.key].epoch if task.key in of_task else epoch
            reported = record.epochs if split == "last_test" else own
            for metric in task.metrics:
                if metric.key in scores.get(task.key, {}):
                    scored = True
                    name = (split, task.key, metric.key, metric.unit, metric.direction, scores[task.key][metric.key])
                    yield (*start, reported, *ending, *name)
    if not scored:
        yield (*start, epoch, *ending, None, None, None, None, None, None)


def _frame(rows: Sequence[tuple[Any, ...]], columns: Sequence[str]) -> DataFrame:
    import pandas

    frame = pandas.DataFrame(rows, columns=list(columns))
    for name in frame.columns:
        if name in _REPEATED and name != "seed":
            frame[name] = frame[name].astype("str" if frame[name].notna().all() else object)
    measured = ("value", "step_seconds", "peak_memory_mib", "idle_memory_mib")
    kinds = {"epoch": "Int64", **dict.fromkeys(measured, float)}
    return frame.astype({name: kind for name, kind in kinds.items() if name in frame.columns})


def _cell(value: Any) -> Any:
    """A setting in a cell: lists and mappings as text."""
    return str(value) if isinstance(value, list | dict) else value


def _tables(
    read: Callable[[Path, Record], DataFrame | None], runs: Iterable[tuple[Path, Record]], columns: Sequence[str]
) -> DataFrame:
    """The tables of runs below each other, each with the columns that name its run; those of bad files are left out."""
    import pandas

    errors, tables = [], []
    for folder, record in runs:
        try:
            table = read(folder, record)
        except RecordError as error:
            errors.append(str(error))
            continue
        if table is not None and len(table):
            tables.append(_named(table, [record] * len(table)))
    _warn(errors)
    return pandas.concat(tables, ignore_index=True) if tables else pandas.DataFrame(columns=list(columns))


def _named(table: DataFrame, records: Sequence[Record]) -> DataFrame:
    """A table with the columns that name the run of each row before its own."""
    import pandas

    names = pandas.DataFrame([_identity(record) for record in records], columns=list(RUN), index=table.index)
    return pandas.concat([names, table.drop(columns=[name for name in RUN if name in table.columns])], axis=1)


def _written_tables(name: str, key: str, runs: Iterable[tuple[Path, Record]]) -> DataFrame:
    """The files of this name of all runs below each other. Those with the same columns are parsed together."""
    import pandas

    alike: dict[str, list[tuple[Path, Record, list[str]]]] = {}
    slow: list[tuple[Path, Record]] = []
    for folder, record in runs:
        lines = _lines(folder / name)
        if lines is None:
            slow.append((folder, record))  # what is wrong with it, if anything, is said there
        elif len(lines) > 1:
            alike.setdefault(lines[0], []).append((folder, record, lines[1:]))
    tables = []
    for header, files in alike.items():
        text = "\n".join([header, *(line for _, _, lines in files for line in lines)])
        table = pandas.read_csv(io.StringIO(text), index_col=False, low_memory=False)
        numeric = all(pandas.api.types.is_numeric_dtype(table[column]) for column in table.columns)
        if numeric and key in table.columns and len(table) == sum(len(lines) for _, _, lines in files):
            tables.append(_named(table, [record for _, record, lines in files for _ in lines]))
        else:
            slow += [(folder, record) for folder, record, _ in files]

    def read(folder: Path, record: Record) -> DataFrame | None:
        table = read_table(folder / name, [key])
        return None if table is None else read_table(folder / name, list(table.columns))

    rest = _tables(read, slow, (*RUN, key))
    tables += [rest] if len(rest) or not tables else []
    return pandas.concat(tables, ignore_index=True)


def _lines(path: Path) -> list[str] | None:
    """The lines of a table with as many values in each as names in the first; None if it is no such file."""
    try:
        lines = read_text(path).splitlines() if is_there(path) else []
    except (Damaged, OSError):
        return None
    if any('"' in line or line.count(",") != lines[0].count(",") for line in lines):
        return None
    return lines
