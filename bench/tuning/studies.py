"""Studies before and after tuning: which rows are tuned on which data sets, and the study of the best settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from bench.records.files import atomic_write_text
from bench.spec.lookup import UnknownName, lookup
from bench.spec.request import ALL, PlanError, raise_all
from bench.spec.settings import SpecError
from bench.spec.study import Study, StudyError, StudyRow, StudyTable
from bench.tuning.space import space_of
from bench.tuning.trials import Outcome, Target
from datasets import DATASETS
from methods import METHODS

FILE = "tuned.yaml"
TABLE = "tuned"
_HEADER = "# Written by `python -m bench.tune`: the settings of the trials that are best on validation.\n"


def study_of_methods(methods: Sequence[str], data: Sequence[str], trials: int, seeds: Sequence[int]) -> Study:
    """A study of these methods, tuned, beside EW as it is.

    Raises:
        UnknownName: there is no such method or data set.
    """
    rows = [StudyRow(label=f"{METHODS[key].label} (tuned)", method=key, trials=trials) for key in _keys(methods)]
    names = _known(data)
    table = StudyTable(name=TABLE, title="Tuned methods", rows=[StudyRow(label="EW", method="ew"), *rows])
    return Study(title=table.title, tables=[table], data=names, seeds=list(seeds), folder=TABLE)


def with_trials(study: Study, trials: int | None) -> Study:
    """The study with tables, and another number of trials where rows have some; in all rows if none has.

    Raises:
        PlanError: no row is to be tuned.
    """
    tables = study.tables or [StudyTable(name=TABLE, title=study.title, rows=_named_rows(study.rows))]
    some = any(row.trials for table in tables for row in table.rows)
    if not some and not trials:
        raise PlanError("Expected rows with `trials: N` in the study, found none; add them, or give --trials N.")
    tables = [
        table.model_copy(
            update={"rows": [_with_trials(row, trials) if row.trials or not some else row for row in rows]}
        )
        for table, rows in ((table, table.rows) for table in tables)
    ]
    return study.model_copy(update={"methods": [], "also": [], "tables": tables})


def _named_rows(rows: Sequence[StudyRow]) -> list[StudyRow]:
    """The rows of a study of methods, one for each method, with labels."""
    named = [(row, key) for row in rows for key in _keys([row.method or "ew"])]
    return [row.model_copy(update={"label": METHODS[key].label, "method": key}) for row, key in named]


def _keys(methods: Sequence[str]) -> list[str]:
    if any(name.lower() == ALL for name in methods):
        return list(METHODS)
    return list(dict.fromkeys(lookup(METHODS, "method", name) for name in methods))


def _with_trials(row: StudyRow, trials: int | None) -> StudyRow:
    return row.model_copy(update={"trials": trials}) if trials and not row.twin_of else row


def with_known_data(study: Study) -> Study:
    """The study with its data sets by their keys.

    Raises:
        UnknownName: there is no such data set.
    """
    tables = [
        table.model_copy(update={"rows": [row.model_copy(update={"data": _known(row.data)}) for row in table.rows]})
        for table in study.tables
    ]
    return study.model_copy(update={"tables": tables, "data": _known(study.data)})


def _known(names: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(lookup(DATASETS, "data set", name) for name in names))


def with_settings(study: Study, settings: Mapping[str, Any]) -> Study:
    """The study with these dotted settings in place of its own and those of its rows."""
    tables = [
        table.model_copy(update={"rows": [_without_settings(row, settings) for row in table.rows]})
        for table in study.tables
    ]
    return study.model_copy(update={"tables": tables, "set": {**study.set, **settings}})


def _without_settings(row: StudyRow, settings: Mapping[str, Any]) -> StudyRow:
    return row.model_copy(update={"set": {key: value for key, value in row.set.items() if key not in settings}})


def on_data(study: Study, names: Sequence[str]) -> Study:
    """The part of a study that is on these data sets."""
    rows = {
        table.name: [_on_data(row, names) for row in table.rows if _is_for_some(row, names)] for table in study.tables
    }
    tables = [table.model_copy(update={"rows": rows[table.name]}) for table in study.tables]
    return study.model_copy(update={"data": list(names), "tables": tables})


def _is_for_some(row: StudyRow, names: Sequence[str]) -> bool:
    return any(row.is_for(name) for name in names)


def _on_data(row: StudyRow, names: Sequence[str]) -> StudyRow:
    return row.model_copy(update={"data": [name for name in row.data if name in names]})


def targets(study: Study) -> list[Target]:
    """Every row with trials on each of its data sets.

    Raises:
        PlanError: lists every error found.
    """
    errors: list[str] = []
    found = []
    for name in study.data:
        for place, row in enumerate(study.rows):
            if row.trials and row.is_for(name):
                try:
                    found.append(Target(place, row, name, space_of(row, name)))
                except (StudyError, UnknownName, SpecError) as error:
                    errors.append(str(error))
    errors += _repeated_labels(found)
    raise_all(errors)
    return found


def _repeated_labels(found: Sequence[Target]) -> list[str]:
    """Sentences on different tuned rows of one name: they could not be told apart in the table of trials."""
    rows: dict[tuple[str, str], list[StudyRow]] = {}
    for one in found:
        row, same = one.row.model_copy(update={"data": []}), rows.setdefault((one.data, one.name), [])
        same += [row] if row not in same else []  # several tables may have the same row
    return [
        f"tables: expected one tuned row {name!r} on {data}, found {len(same)}; give them other labels."
        for (data, name), same in rows.items()
        if len(same) > 1
    ]


def tuned_study(study: Study, outcomes: Sequence[Outcome], seeds: Sequence[int]) -> Study:
    """The study with a row for each data set in place of each tuned one, on the data sets whose trials have all ended.

    seeds: of the trials.

    Other rows are kept as they are.
    """
    late = {one.target.data for one in outcomes if not one.complete}
    part = [name for name in study.data if name not in late]
    best = {(one.target.place, one.target.data): one.best.settings for one in outcomes if one.complete}
    tables, place = [], 0
    for table in study.tables:
        rows: list[StudyRow] = []
        for row in table.rows:
            rows += _tuned(row, place, [name for name in part if row.is_for(name)], best)
            place += 1
        tables.append(table.model_copy(update={"rows": rows}))
    return on_data(study.model_copy(update={"tables": tables, "trial_seeds": list(seeds)}), part)


def _tuned(
    row: StudyRow, place: int, data: Sequence[str], best: Mapping[tuple[int, str], dict[str, Any]]
) -> list[StudyRow]:
    """A row for each data set, with its best settings; the row itself if it is not tuned."""
    if not row.trials:
        return [row]
    return [row.model_copy(update={"set": {**row.set, **best[place, name]}, "data": [name]}) for name in data]


def write_study(path: Path, study: Study) -> Path:
    """Writes a study that `bench.run --study FILE` runs."""
    content = study.model_dump(mode="json", exclude_defaults=True)
    content["seeds"] = study.seeds  # named even where they are the default
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110, default_flow_style=None)
    return atomic_write_text(path, _HEADER + text)
