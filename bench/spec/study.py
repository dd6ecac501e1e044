"""Studies: named sets of runs, one YAML file each in bench/spec/studies, and the rows of their tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations, product
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bench import ROOT
from bench.records.files import storage_error
from bench.records.names import ShortName, inside
from bench.records.reading import Damaged, read_text, validation_lines
from bench.spec import safe_yaml
from bench.spec.lookup import lookup, same_name

STUDIES = Path(__file__).resolve().parent / "studies"
MOST_TRIALS = 10_000


class StudyError(ValueError):
    """A study that can't be read, or a row without runs; the message says where."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class StudyRow(_Part):
    """One row of a table: a method, or an architecture and a weighting, with its own settings.

    set: dotted settings of all runs of the row.
    permute: settings with one number per task. Every order of the first m numbers is a run of its own; the report
        shows the run that is best on validation.
    data: the data sets of the row, out of those of the study; empty for all.
    trials: of tuning, on each data set: to be made, in a study for `bench.tune`; that were made, in one it has written.
    twin_of: the label of another row, whose frozen twin this is; it has nothing of its own but a label and data sets.
    """

    label: str = ""
    method: str | None = None
    arch: str | None = None
    weighting: str | None = None
    set: dict[str, Any] = Field(default_factory=dict)
    permute: dict[str, list[float]] = Field(default_factory=dict)
    data: list[str] = Field(default_factory=list)
    trials: int = Field(default=0, ge=0, le=MOST_TRIALS)
    twin_of: str = ""

    @model_validator(mode="after")
    def _twin_has_nothing_of_its_own(self) -> StudyRow:
        own = [name for name in ("method", "arch", "weighting", "permute", "trials") if getattr(self, name)]
        if self.twin_of and own:
            raise ValueError(f"twin_of: expected a row without {own[0]}, which its source has; found both")
        return self

    def is_for(self, data: str) -> bool:
        """Whether the row has runs on a data set."""
        return not self.data or any(same_name(name, data) for name in self.data)

    def sources(self, rows: Sequence[StudyRow], data: str) -> list[StudyRow]:
        """The rows on a data set that this is the twin of. Several tables may have the same one."""
        return [row for row in rows if row.label == self.twin_of and not row.twin_of and row.is_for(data)]

    def assignments(self, n_tasks: int) -> list[dict[str, Any]]:
        """The dotted settings of each run of this row.

        Raises:
            StudyError: there are fewer numbers to permute than tasks.
        """
        for key, numbers in self.permute.items():
            if len(numbers) < n_tasks:
                raise StudyError(
                    f"Row {self.label!r} permutes {len(numbers)} values of {key}: too few for {n_tasks} tasks."
                )
        orders = [[(key, list(order)) for order in permutations(n[:n_tasks])] for key, n in self.permute.items()]
        return [{**self.set, **dict(chosen)} for chosen in product(*orders)]


class StudyTable(_Part):
    """A table of a study.

    name: its folder in the reports.
    """

    name: ShortName
    title: str
    rows: list[StudyRow]


class Addition(_Part):
    """The methods of a study once more, with settings of their own, on some of its data sets."""

    data: list[str]
    set: dict[str, Any]


class Study(_Part):
    """A named set of runs: (methods, or the rows of tables) × data sets × seeds.

    also: the methods once more with other settings, such as another protocol.
    set: dotted settings of all runs.
    only_found: whether data sets that are not on this machine are left out, with a remark, instead of refused.
    otherwise: the data sets to use if none is found.
    folder: the subfolder of its records and reports.
    trial_seeds: of the trials that the settings of its rows come from; none of them is reported. Only in a study that
        `bench.tune` has written.
    """

    title: str
    methods: list[str] = Field(default_factory=list)
    also: list[Addition] = Field(default_factory=list)
    tables: list[StudyTable] = Field(default_factory=list)
    data: list[str]
    otherwise: list[str] = Field(default_factory=list)
    seeds: list[int] = [0, 1, 2]
    set: dict[str, Any] = Field(default_factory=dict)
    only_found: bool = False
    folder: ShortName | Literal[""] = ""
    trial_seeds: list[int] = Field(default_factory=list)

    @model_validator(mode="after")
    def _has_rows(self) -> Study:
        if bool(self.methods) == bool(self.tables):
            raise ValueError("expected either methods or tables, found both or none")
        if self.also and not self.methods:
            raise ValueError("also: expected methods in the study, which it repeats, found none")
        if both := sorted({*self.seeds} & {*self.trial_seeds}):
            raise ValueError(f"seeds: expected seeds that no trial had (trial_seeds), found {both[0]}")
        names = [table.name for table in self.tables]
        if repeated := [name for place, name in enumerate(names) if name in names[:place]]:
            raise ValueError(f"tables: expected each name once, found {repeated[0]!r} again")
        for row in (row for table in self.tables for row in table.rows):
            if unknown := sorted({*row.data} - {*self.data}):
                raise ValueError(f"tables: row {row.label!r} is for {', '.join(unknown)}, which the study doesn't have")
        for part in self.also:
            if unknown := sorted({*part.data} - {*self.data}):
                raise ValueError(f"also: expected data sets of the study, found {', '.join(unknown)}")
        for error in _wrong_twins(self.data, [row for table in self.tables for row in table.rows]):
            raise ValueError(f"tables: {error}")
        return self

    @property
    def folders(self) -> tuple[str, ...]:
        """The subfolder of its records and reports, if it has one."""
        return (self.folder,) if self.folder else ()

    @property
    def rows(self) -> list[StudyRow]:
        """All rows, with the settings of the whole study."""
        if not self.tables:
            return self.rows_of(self.methods)
        return [self.complete(row) for table in self.tables for row in table.rows]

    def complete(self, row: StudyRow) -> StudyRow:
        """A row with the settings of the whole study, which its own replace."""
        return row.model_copy(update={"set": {**self.set, **row.set}})

    def rows_of(self, methods: Sequence[str]) -> list[StudyRow]:
        """A row per method, with the settings of the whole study; then those of the additions."""
        own = [StudyRow(method=name) for name in methods]
        added = [StudyRow(method=name, data=part.data, set=part.set) for part in self.also for name in methods]
        return [self.complete(row) for row in [*own, *added]]


def _wrong_twins(data: Sequence[str], rows: Sequence[StudyRow]) -> Iterator[str]:
    """Sentences on twins of a row that is not there, or that can't have one."""
    for row in (row for row in rows if row.twin_of):
        what = f"row {row.label!r} is the twin of {row.twin_of!r}"
        if row.set:
            yield f"{what}: expected no settings of its own, found {', '.join(row.set)}"
        for name in row.data or data:
            sources = row.sources(rows, name)
            if not sources:
                yield f"{what}: expected such a row on {name}, found none"
            if any(source.permute for source in sources):
                yield f"{what}: expected one that permutes no settings, found one that does"


def load_study(name: str) -> Study:
    """A study from bench/spec/studies, or from the file at a path that ends in .yaml.

    Raises:
        UnknownName: there is no such study. StudyError: its file is invalid; the message has a line for each error.
    """
    if name.endswith((".yaml", ".yml")):
        return read_study(Path(name))
    name = lookup([path.stem for path in sorted(STUDIES.glob("*.yaml"))], "study", name)
    return read_study(STUDIES / f"{name}.yaml")


def read_study(path: Path) -> Study:
    """A study.

    Raises:
        StudyError: as of `load_study`.
    """
    try:
        return Study.model_validate(safe_yaml.load(read_text(path)))
    except yaml.YAMLError as error:
        raise StudyError(f"{path}: expected a study in YAML, found {safe_yaml.in_one_line(error)}.") from error
    except ValidationError as error:
        raise StudyError("\n".join(f"{path}: {line}." for line in validation_lines(error))) from error
    except Damaged as error:
        raise StudyError(f"{path}: {error}.") from error
    except OSError as error:
        raise StudyError(str(storage_error(path, error))) from error


def results_of(study: Study | None) -> Path:
    """The folder of the records, of a study or of other runs, where no other is named."""
    return inside(ROOT / "results", *(study.folders if study else ()))
