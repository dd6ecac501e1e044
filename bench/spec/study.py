"""Studies: named sets of runs, one YAML file each in bench/spec/studies, and the rows of their tables."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bench.spec.lookup import lookup

STUDIES = Path(__file__).resolve().parent / "studies"


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
    """

    label: str = ""
    method: str | None = None
    arch: str | None = None
    weighting: str | None = None
    set: dict[str, Any] = Field(default_factory=dict)
    permute: dict[str, list[float]] = Field(default_factory=dict)
    data: list[str] = Field(default_factory=list)

    def is_for(self, data: str) -> bool:
        """Whether the row has runs on a data set."""
        return not self.data or data in self.data

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

    name: str
    title: str
    rows: list[StudyRow]


class Study(_Part):
    """A named set of runs: (methods, or the rows of tables) × data sets × seeds.

    set: dotted settings of all runs.
    only_found: whether data sets that are not on this machine are left out, with a remark, instead of refused.
    otherwise: the data sets to use if none is found.
    folder: the subfolder of its records and reports.
    """

    title: str
    methods: list[str] = Field(default_factory=list)
    tables: list[StudyTable] = Field(default_factory=list)
    data: list[str]
    otherwise: list[str] = Field(default_factory=list)
    seeds: list[int] = [0, 1, 2]
    set: dict[str, Any] = Field(default_factory=dict)
    only_found: bool = False
    folder: str = ""

    @model_validator(mode="after")
    def _has_rows(self) -> Study:
        if bool(self.methods) == bool(self.tables):
            raise ValueError("a study has either methods or tables")
        for row in (row for table in self.tables for row in table.rows):
            if unknown := sorted({*row.data} - {*self.data}):
                raise ValueError(f"row {row.label!r} is for {', '.join(unknown)}, which the study doesn't have")
        return self

    @property
    def rows(self) -> list[StudyRow]:
        """All rows, with the settings of the whole study."""
        rows = [row for table in self.tables for row in table.rows] or [StudyRow(method=name) for name in self.methods]
        return [row.model_copy(update={"set": {**self.set, **row.set}}) for row in rows]


def load_study(name: str) -> Study:
    """A study from bench/spec/studies.

    Raises:
        UnknownName: there is no such study. StudyError: its file is invalid.
    """
    name = lookup([path.stem for path in sorted(STUDIES.glob("*.yaml"))], "study", name)
    try:
        return Study.model_validate(yaml.safe_load((STUDIES / f"{name}.yaml").read_text(encoding="utf-8")))
    except (ValidationError, yaml.YAMLError) as error:
        raise StudyError(f"bench/spec/studies/{name}.yaml: {error}") from error
