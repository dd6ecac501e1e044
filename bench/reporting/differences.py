"""What makes rows or seeds incomparable: settings, data and versions of the code that differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from bench.records.record import Record
from bench.records.same_data import data_settings, same_data, split_per_seed
from bench.reporting.labels import seed_list, show_value

# Sections of `settings` that belong to a method; the others are meant to be the same for every row of a table.
METHOD_SECTIONS = ("arch", "weighting")
# Shared settings that tuning chooses for each method; the column of trials says how much of it a row had.
TUNED = ("train.lr", "train.weight_decay")
# Versions that every row of a table shares, and those that only rows with the same method part share.
SHARED_VERSIONS = ("engine", "problem", "maker")
METHOD_VERSIONS = ("weighting", "architecture")
NOT_KEPT = "not kept"
UNVERSIONED = "made before versions were kept"


def seed_differences(runs: Sequence[Record]) -> list[str]:
    """Notes that say why the seeds of one row must not be averaged; none if they may be."""
    names = (*SHARED_VERSIONS, *METHOD_VERSIONS)
    differing = {
        "settings": _differing([flat(run.settings) for run in runs]),
        "versions": _differing([{name: run.versions.get(name, NOT_KEPT) for name in names} for run in runs]),
    }
    notes = [
        f"seeds ran with different {what} and are not averaged: {'; '.join(found)}"
        for what, found in differing.items()
        if found
    ]
    usual, odd = _usual_data(runs)
    if usual and odd:
        seeds = seed_list([run.seed for run in odd])
        notes.append(f"seeds saw different data and are not averaged: {seeds} other than seed {usual.seed}")
    return notes


def _usual_data(runs: Sequence[Record]) -> tuple[Record | None, list[Record]]:
    """A run that saw the data that most runs saw, and all runs that saw other data."""
    alike: dict[str, list[Record]] = {}  # so that a table of thousands of runs takes few comparisons
    for run in runs:
        seed = run.seed if split_per_seed(run.settings) else None
        alike.setdefault(show_value([run.fingerprint, run.splits.get("digest"), seed]), []).append(run)
    if not alike:
        return None, []
    firsts = [group[0] for group in alike.values()]
    most = max(firsts, key=lambda first: _agreeing(first, alike.values()))
    # A record without a fingerprint agrees with different fingerprints; these don't agree with each other.
    marked = [group for group in alike.values() if group[0].fingerprint and same_data(group[0], most)]
    usual = max((group[0] for group in marked), key=lambda first: _agreeing(first, marked), default=most)
    odd = [run for run in runs if not (same_data(run, most) and same_data(run, usual))]
    return usual, odd


def _agreeing(run: Record, groups: Iterable[Sequence[Record]]) -> int:
    """The number of runs that saw the same data as this one; those of a group are alike."""
    return sum(len(group) for group in groups if same_data(run, group[0]))


def data_differences(rows: Mapping[str, Collection[Record]]) -> dict[str, tuple[str, ...]]:
    """By variant, a note on runs whose data is not that of most runs of the table that should have seen the same.

    rows: the runs of each row. All seeds are compared. If every seed has a partition of its own, each is also compared
        with its like.
    """
    if len(rows) < 2:  # the seeds of one row are compared with each other
        return dict.fromkeys(rows, ())
    groups: dict[str, list[tuple[str, Record]]] = {}
    for key, runs in rows.items():
        for run in runs:
            settings = show_value(data_settings(run.settings))
            for seeds in ["all seeds", *([f"seed {run.seed}"] if split_per_seed(run.settings) else [])]:
                groups.setdefault(f"{settings}, {seeds}", []).append((key, run))
    odd: dict[str, set[int]] = {key: set() for key in rows}
    for group in groups.values():
        _, others = _usual_data([run for _, run in group])
        for key, run in group:
            if any(run is other for other in others):
                odd[key].add(run.seed)
    return {
        key: (f"data differs from that of the other rows ({seed_list(sorted(seeds))})",) if seeds else ()
        for key, seeds in odd.items()
    }


def _differing(mappings: Sequence[Mapping[str, Any]]) -> list[str]:
    """`key: value, value` for every key whose value is not the same in all."""
    names = dict.fromkeys(name for one in mappings for name in one)
    values = {name: dict.fromkeys(show_value(one.get(name)) for one in mappings) for name in names}
    return [f"{name}: {', '.join(found)}" for name, found in values.items() if len(found) > 1]


def row_differences(rows: Mapping[str, Record]) -> dict[str, tuple[str, ...]]:
    """By variant, notes on settings and versions that are not those of most rows.

    rows: one run of each row, a finished one where there is any.
    """
    settings, versions = _odd_settings(rows), _odd_versions(rows)
    return {key: (*settings[key], *versions[key]) for key in rows}


def _odd_settings(rows: Mapping[str, Record]) -> dict[str, list[str]]:
    """Shared settings that are not those of most rows, of rows whose labels don't give them."""
    shared = {key: _shared(run) for key, run in rows.items()}
    odd: dict[str, list[str]] = {key: [] for key in rows}
    for name in dict.fromkeys(name for settings in shared.values() for name in settings):
        silent = {key: of for key, of in shared.items() if name in of and name not in rows[key].overrides}
        values = {key: show_value(settings[name]) for key, settings in silent.items()}
        for usual, _ in Counter(values.values()).most_common(1):
            for key in (key for key, value in values.items() if value != usual):
                odd[key].append(f"{name}={values[key]}, other rows have {usual}")
    return odd


def budget_differences(rows: Sequence[Record]) -> list[tuple[str, ...]]:
    """For each row, notes on budget, data and other shared settings that are not those of most rows.

    For tables whose rows have labels of their own, which don't give the settings. rows: one run of each.
    """
    shared = [{name: show_value(value) for name, value in _shared(run).items() if name not in TUNED} for run in rows]
    notes: list[list[str]] = [[] for _ in rows]
    for name in dict.fromkeys(name for settings in shared for name in settings):
        usual = Counter(settings[name] for settings in shared if name in settings).most_common(1)[0][0]
        for own, settings in zip(notes, shared, strict=True):
            if settings.get(name, usual) != usual:
                own.append(f"{name}={settings[name]}, other rows have {usual}")
    return [tuple(own) for own in notes]


def _shared(run: Record) -> dict[str, Any]:
    """Settings meant to be the same for every row."""
    return flat({name: part for name, part in run.settings.items() if name not in METHOD_SECTIONS})


def _odd_versions(rows: Mapping[str, Record]) -> dict[str, list[str]]:
    """One note per row whose versions are not those of most rows; of versions equally frequent, the newest counts."""
    usual: dict[str, dict[str, int | None]] = {key: {} for key in rows}
    for name in SHARED_VERSIONS:
        common = _most_common(run.versions.get(name) for run in rows.values())
        for expected in usual.values():
            expected[name] = common
    for name in METHOD_VERSIONS:
        for key, run in rows.items():
            same = (other for other in rows.values() if getattr(other, name) == getattr(run, name))
            usual[key][name] = _most_common(other.versions.get(name) for other in same)
    return {key: _version_notes(run, usual[key]) for key, run in rows.items()}


def _most_common(versions: Iterable[int | None]) -> int | None:
    counts = Counter(versions)
    return max(counts, key=lambda version: (counts[version], version is not None, version or 0))


def _version_notes(run: Record, usual: Mapping[str, int | None]) -> list[str]:
    odd = [name for name, version in usual.items() if run.versions.get(name) != version]
    if odd and not run.versions:
        return [UNVERSIONED]
    own = [f"{name} version {run.versions.get(name, NOT_KEPT)}" for name in odd]
    if odd and all(usual[name] is None for name in odd):
        return [f"{', '.join(own)}: other rows were {UNVERSIONED}"]
    return [f"{text}, other rows {_other(name, usual[name])}" for text, name in zip(own, odd, strict=True)]


def _other(name: str, version: int | None) -> str:
    same = f"with this {name} " if name in METHOD_VERSIONS else ""
    return f"{same}{NOT_KEPT if version is None else version}"


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted keys."""
    dotted: dict[str, Any] = {}
    for key, value in settings.items():
        dotted.update(flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return dotted
