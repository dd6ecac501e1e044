"""What `bench.relations` compares: the positions, gradients and labels behind finished runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from bench.analyses.relations.agreement import (
    Measure,
    Numbers,
    Relations,
    mean_cosines,
    pair_names,
    phi_coefficients,
    relate,
)
from bench.records.record import Record
from bench.records.store import COSINES, RecordError, read_records, run_folder
from bench.reporting.comparison import BASELINE, Comparison, Variant, comparisons
from bench.reporting.differences import METHOD_SECTIONS
from bench.reporting.figures.series import read_series
from bench.spec.lookup import lookup
from datasets import DATASETS, obtain
from datasets.contract import DataMissing, DatasetInfo, DataSettings
from datasets.losses import binary_cross_entropy

NORMAL = "normal"
COMMAND = "python -m bench.run --study relations"


def comparable_runs(results: Path, names: Sequence[str]) -> tuple[Comparison, ...]:
    """Per data set with a run of NORMAL that looked at its cosines, such runs of NORMAL and of EW.

    Raises:
        RecordError: there are none, or one can't be read. UnknownName: a name fits none of the records.
    """
    records = read_records(results)
    if not records:
        raise RecordError(f"{results}: expected records of runs, found none; {_advice(results)}.")
    known = dict.fromkeys(record.data for record in records)
    chosen = {lookup(known, "data set among the records", name) for name in names} or set(known)
    records = [record for record in records if record.data in chosen]
    normal = [record for record in records if record.method == NORMAL]
    if not normal:
        methods = ", ".join(dict.fromkeys(record.labels.method for record in records))
        raise RecordError(f"{results}: expected runs of NORMAL, found {methods}; {_advice(results)}.")
    with_cosines = {record.data for record in normal if _looks(record)}
    if not with_cosines:
        raise RecordError(
            f"{results}: expected runs of NORMAL with {COSINES}, found none with train.cosines_every > 0; "
            f"{_advice(results)}."
        )
    return comparisons([r for r in records if r.data in with_cosines and r.method in (NORMAL, BASELINE) and _looks(r)])


def _advice(results: Path, data: str = "") -> str:
    return f"run `{COMMAND}{f' --data {data}' if data else ''} --results {results}` first"


def _looks(record: Record) -> bool:
    every = record.settings.get("train", {}).get("cosines_every", 0)
    return isinstance(every, int) and every > 0


def related(results: Path, study: Comparison, data_root: Path) -> Relations:
    """All comparisons of one data set.

    Raises:
        RecordError: no finished run of NORMAL, or several variants of it, or a run without its cosines.
    """
    normal = _the_normal(results, study)
    first = next(iter(normal.scored.values()))
    tasks = {task.key: task.label for task in study.tasks}
    positions = {
        seed: np.array([record.positions[key] for key in tasks], dtype=np.float64)
        for seed, record in normal.scored.items()
    }
    even = _the_even(study, first)
    measures = (
        Measure(
            "cosine_normal",
            "Cosine of gradients, NORMAL",
            "Gradient cosine, NORMAL",
            "tasks with more aligned gradients",
            _cosines(results, study, normal),
            remark="These gradients are taken at the positions of the tasks, so they depend on what they are compared "
            "with: a confound that the row of EW, which has no positions, is free of.",
        ),
        Measure(
            "cosine_ew",
            "Cosine of gradients, EW",
            "Gradient cosine, EW",
            "tasks with more aligned gradients",
            _cosines(results, study, even) if even is not None else {},
            remark="EW's runs have no positions, and otherwise the settings and seeds of NORMAL's.",
            missing="No finished run of EW that looked at its cosines and has the settings of NORMAL's; "
            f"`{COMMAND} --data {study.data}` makes one.",
        ),
        *_label_measures(first, tuple(positions), data_root),
    )
    notes = [f"{v.label}: {note}" for v in (normal, even) if v is not None for note in v.notes]
    return relate(study.data, study.label, tasks, positions, measures, notes)


def _the_normal(results: Path, study: Comparison) -> Variant:
    found = [variant for variant in study.variants if variant.method == NORMAL]
    finished = [variant for variant in found if variant.scored]
    if not finished:
        notes = "; ".join(note for variant in found for note in variant.notes)
        raise RecordError(
            f"{results / study.data}: expected finished runs of NORMAL, found none ({notes}); "
            f"{_advice(results, study.data)}."
        )
    if len(finished) > 1:
        keys = ", ".join(variant.key for variant in finished)
        raise RecordError(
            f"{results / study.data}: expected one variant of NORMAL with {COSINES}, found {keys}; move all but one "
            "away, or keep them apart with --results."
        )
    return finished[0]


def _the_even(study: Comparison, normal: Record) -> Variant | None:
    """The row of EW that differs from NORMAL's in nothing but the method."""

    def shared(record: Record) -> Mapping[str, object]:
        return {name: part for name, part in record.settings.items() if name not in METHOD_SECTIONS}

    for variant in study.variants:
        runs = list(variant.scored.values())
        if variant.method == BASELINE and runs and shared(runs[0]) == shared(normal):
            return variant
    return None


def _cosines(results: Path, study: Comparison, variant: Variant) -> dict[int, Numbers]:
    """By seed, the cosine of every pair of tasks (pairs,): mean over all looks of the training."""
    for seed in variant.scored:
        path = run_folder(results, study.data, variant.key, seed) / COSINES
        if not path.is_file():
            raise RecordError(
                f"{path}: expected the cosines of the tasks' gradients, found no such file; delete the folder of the "
                f"run, then {_advice(results, study.data)}."
            )
    columns = pair_names([task.key for task in study.tasks])
    frames = read_series(results, study, variant, COSINES, columns)
    return {seed: mean_cosines(frame[columns].to_numpy(dtype=np.float64)) for seed, frame in frames.items()}


def _label_measures(record: Record, seeds: Sequence[int], data_root: Path) -> tuple[Measure, ...]:
    """How the labels of the training images go together, with and without sign; the same for every seed."""
    correlations = _label_correlations(record, data_root)
    if isinstance(correlations, str):
        title = "Correlation of labels"
        return (Measure("label_correlation", title, title, "", {}, missing=correlations),)
    return (
        Measure(
            "label_correlation",
            "Correlation of labels, φ",
            "Label correlation φ",
            "tasks with more correlated labels",
            dict.fromkeys(seeds, correlations),
            remark="Over the training images; the same for every seed.",
        ),
        Measure(
            "label_association",
            "Correlation of labels without its sign, |φ|",
            "Label association |φ|",
            "tasks with more strongly associated labels",
            dict.fromkeys(seeds, np.abs(correlations)),
            remark="Which of two answers counts as 1, beard or no beard, gives φ its sign; gradients and positions "
            "depend on it only through the first weights of the heads.",
            drawn=False,
        ),
    )


def _label_correlations(record: Record, data_root: Path) -> Numbers | str:
    """φ of every pair of tasks (pairs,), or a sentence that says why there is none."""
    info = DATASETS.get(record.data)
    if info is None:
        return "This data set is none of the suite's any more."
    if info.kind != "single-input":
        return "Every task has images of its own, so that no image has the labels of two tasks."
    if not _all_binary(info):
        return "φ compares labels of two values; not every task here has such a label."
    try:
        folder = obtain(record.data, data_root)
    except DataMissing:
        return "The data set was not found on the machine where this page was made."
    splits = info.read(folder, TypeAdapter(DataSettings).validate_python(record.settings["data"]))
    if splits.provenance.get("digest") != record.splits.get("digest"):
        return "The data set on the machine where this page was made is split in another way than that of the runs."
    (images,) = splits.train
    labels = np.stack([images.targets[task].numpy() for task in range(len(info.tasks))])
    return phi_coefficients(labels.astype(np.float64))


def _all_binary(info: DatasetInfo) -> bool:
    return all(task.loss is binary_cross_entropy for task in info.tasks)
