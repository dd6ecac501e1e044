"""What a user asks for, on the command line or by a study, and the data sets that it means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.records.record import Record
from bench.spec.lookup import UnknownName, lookup
from bench.spec.study import StudyRow
from datasets import DATASETS, find

ALL = "all"


class PlanError(ValueError):
    """Everything that is wrong with a request, one error per line."""


@dataclass(frozen=True)
class Request:
    """What a user asked for, on the command line or by a study; names as typed.

    only_found: whether data sets that are not on this machine are left out instead of refused.
    otherwise: the data sets to use if none is found.
    sources: the runs whose frozen twins the rows are, if a user named them.
    remarks: for the user, on what was asked for.
    trials: whether the runs are trials of tuning, which are never reported.
    """

    rows: Sequence[StudyRow]
    data: Sequence[str]
    seeds: Sequence[int]
    only_found: bool = False
    otherwise: Sequence[str] = ()
    sources: Sequence[Record] = ()
    remarks: Sequence[str] = ()
    trials: bool = False

    @property
    def all_data(self) -> bool:
        """Whether it is for every data set."""
        return any(name.lower() == ALL for name in self.data)


def raise_all(errors: Sequence[str]) -> None:
    """Raises PlanError with all errors, each once; nothing if there are none."""
    if errors:
        raise PlanError("\n".join(dict.fromkeys(errors)))


def data_names(request: Request, errors: list[str]) -> list[str]:
    """The keys of the requested data sets, each once, found or not; unknown names are added to `errors`."""
    if request.all_data:
        return list(DATASETS)
    names = []
    for name in request.data:
        try:
            names.append(lookup(DATASETS, "data set", name))
        except UnknownName as error:
            errors.append(str(error))
    return list(dict.fromkeys(names))


def found_names(names: Sequence[str], request: Request, data_root: Path) -> tuple[list[str], list[str]]:
    """The data sets that are found or can be made, else the request's alternatives; and remarks on the others."""
    absent = [name for name in names if DATASETS[name].make is None and find(name, data_root) is None]
    remarks = [f"{name}: not found under {data_root}, left out. {DATASETS[name].how}" for name in absent]
    found = [name for name in names if name not in absent]
    if not found and request.otherwise:
        found = list(dict.fromkeys(request.otherwise))
        remarks.append(f"None of these data sets is here; running {', '.join(found)} instead.")
    return found, remarks
