"""Which runs a command is about: those that filters leave, or those that a person names."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.inventory.states import FoundRun
from bench.records.store import SEED_PREFIX, run_folders
from bench.spec.lookup import did_you_mean, lookup, same_name
from bench.spec.shown import shown

_MOST_NAMED = 5


class NoSuchRun(ValueError):
    """A name that is of no run, or of several; the message lists some."""


@dataclass(frozen=True)
class Filters:
    """What runs must be; empty members leave all. methods: keys, labels or variants. states: as in `FoundRun`."""

    data: Sequence[str] = ()
    methods: Sequence[str] = ()
    states: Sequence[str] = ()
    seeds: Sequence[int] = ()


def selected(runs: Iterable[FoundRun], filters: Filters) -> list[FoundRun]:
    """The runs that pass.

    Raises:
        UnknownName: no run has one of the data sets or methods.
    """
    found = list(runs)
    kinds: dict[str, tuple[Sequence[str], Callable[[FoundRun], Iterable[str]]]] = {
        "data set among the runs": (filters.data, lambda run: [run.data]),
        "method among the runs": (filters.methods, method_names),
    }
    for kind, (wanted, names) in kinds.items():
        known = list(dict.fromkeys(name for run in found for name in names(run))) if wanted else []
        chosen = [lookup(known, kind, name) for name in wanted]
        found = [run for run in found if not chosen or any(same_name(n, one) for n in names(run) for one in chosen)]
    if filters.seeds:
        found = [run for run in found if run.seed in {str(seed) for seed in filters.seeds}]
    return [run for run in found if not filters.states or run.state in filters.states]


def method_names(run: FoundRun) -> list[str]:
    """What the method of a run may be called: its key, its label, and the folder."""
    own = [run.record.method, run.record.labels.method] if run.record else []
    return list(dict.fromkeys([*own, run.variant.partition("@")[0], run.variant]))


def run_named(text: str, results: Path) -> Path:
    """The folder of the run that a person means: its path, or [data/]variant[/seed], as far as it is clear.

    Raises:
        NoSuchRun: there is none, or more than one.
    """
    folders = runs_named(text, results)
    if len(folders) > 1:
        raise NoSuchRun(
            f"Expected one run, found {len(folders)} that {shown(text)} may mean: {_some(folders)}; say which, as in "
            f"{'/'.join(folders[0].parts[-3:])}."
        )
    return folders[0]


def runs_named(text: str, results: Path) -> list[Path]:
    """The folders of all runs that a text may mean: a path of a run or of a folder above it, or its short form.

    The name of a data set means all its runs, unless a row has that name. It is not abbreviated.

    Raises:
        NoSuchRun: nothing has such a name, or the path leads out of the results.
    """
    errors: list[str] = []
    folders = run_folders(results, errors)
    path = Path(text)
    if path.is_absolute() or ".." in path.parts or (os.path.lexists(path) and _is_below(path, results)):
        if not _is_below(path, results):
            raise NoSuchRun(
                f"Expected a run in {results}, found the path {shown(text)}; name its folder with --results."
            )
        below = [folder for folder in folders if _is_below(folder, path, follow=False)]
        if below:
            return below
    parts = [part for part in text.split("/") if part]
    exact = [folder for folder in folders if _matches(parts, folder, same_name)]
    exact = exact or [folder for folder in folders if len(parts) == 1 and same_name(folder.parts[-3], parts[0])]
    found = exact or [folder for folder in folders if _matches(parts, folder, _begins)]
    if not found:
        hint = did_you_mean(("/".join(folder.parts[-3:]) for folder in folders), text)
        advice = "" if hint else " `python -m bench.runs list` shows all."
        raise NoSuchRun(f"Unknown run {shown(text)} in {results}.{hint}{advice}")
    return found


def _is_below(path: Path, folder: Path, follow: bool = True) -> bool:
    """Whether a path is a folder or below it, by name; and, if links are followed, in truth."""
    named = Path(os.path.abspath(path)).is_relative_to(os.path.abspath(folder))
    return named and (not follow or Path(path).resolve().is_relative_to(folder.resolve()))


def _matches(parts: Sequence[str], folder: Path, same: Callable[[str, str], bool]) -> bool:
    """Whether parts are names of this run: variant, data/variant, variant/seed or data/variant/seed."""
    data, variant, seed = folder.parts[-3:]
    forms: list[tuple[str, ...]] = [(variant,), (data, variant), (variant, seed), (data, variant, seed)]
    fitting = [zip(form, parts, strict=True) for form in forms if len(form) == len(parts)]
    return any(all(_is(name, part, same) for name, part in pairs) for pairs in fitting)


def _is(name: str, part: str, same: Callable[[str, str], bool]) -> bool:
    if name.startswith(SEED_PREFIX):  # a seed is meant as it is: 1 is not 10
        return part in (name, name.removeprefix(SEED_PREFIX))
    return same(name, part)


def _begins(name: str, part: str) -> bool:
    return name.lower().startswith(part.lower())


def _some(folders: Sequence[Path]) -> str:
    names = ["/".join(folder.parts[-3:]) for folder in folders[:_MOST_NAMED]]
    return ", ".join(names) + (" …" if len(folders) > _MOST_NAMED else "")
