"""Made-up records, for the tests of code that only reads records."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from unittest import mock

from matplotlib.figure import Figure

from bench.records.record import (
    Direction,
    Labels,
    MetricRecord,
    Order,
    Parameters,
    Record,
    Scores,
    Selected,
    TaskRecord,
    Timing,
)
from bench.records.selected_scores import selected_scores
from bench.records.store import CURVE, POSITIONS, run_folder, write_csv, write_record
from bench.records.upgrade import upgraded_settings

NASTY = r"50% of a_b & #1 ~ $x^2$ {c} \d <e> |f| [g] *h* `i` -- 'loss' ≥ 1 ‖g‖"
METHODS = ("EW", "UW", "GradNorm", "MGDA", "PCGrad", "IMTL", "CAGrad", "Nash-MTL", "NORMAL")
FACES = [
    "5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald", "Bangs", "Big_Lips", "Big_Nose",
    "Black_Hair", "Blond_Hair", "Blurry", "Brown_Hair", "Bushy_Eyebrows", "Chubby", "Double_Chin", "Eyeglasses",
    "Goatee", "Gray_Hair", "Heavy_Makeup", "High_Cheekbones", "Male", "Mouth_Slightly_Open", "Mustache",
    "Narrow_Eyes", "No_Beard", "Oval_Face", "Pale_Skin", "Pointy_Nose", "Receding_Hairline", "Rosy_Cheeks",
    "Sideburns", "Smiling", "Straight_Hair", "Wavy_Hair", "Wearing_Earrings", "Wearing_Hat", "Wearing_Lipstick",
    "Wearing_Necklace", "Wearing_Necktie", "Young",
]  # fmt: skip


def metric(key: str, label: str, direction: Direction = "higher", unit: str = "") -> MetricRecord:
    return MetricRecord(key=key, label=label, direction=direction, unit=unit)


ACCURACY = metric("accuracy", "Accuracy", unit="%")
DIGITS = [TaskRecord(key=k, label=k.capitalize(), metrics=[ACCURACY]) for k in ("plain", "colour", "outline", "noisy")]
ROOMS = [
    TaskRecord(
        key="segmentation",
        label="Segmentation",
        metrics=[metric("miou", "mIoU", unit="%"), metric("pixacc", "PixAcc", unit="%")],
    ),
    TaskRecord(
        key="depth",
        label="Depth",
        metrics=[metric("abs", "AbsErr", "lower", "m"), metric("rel", "RelErr", "lower")],
    ),
    TaskRecord(
        key="normal",
        label="Normal",
        metrics=[
            metric("mean", "Mean", "lower", "°"),
            metric("median", "Median", "lower", "°"),
            metric("within11", "within 11.25°", unit="%"),
            metric("within22", "within 22.5°", unit="%"),
            metric("within30", "within 30°", unit="%"),
        ],
    ),
]
MANY = [
    TaskRecord(key=name.lower(), label=name.replace("_", " "), metrics=[ACCURACY, metric("f1", "F1", unit="%")])
    for name in FACES
]
TASKS = {"digits": DIGITS, "rooms": ROOMS, "faces": MANY}
# Scores of EW before any spread.
TYPICAL = {
    "accuracy": 0.9, "f1": 0.7, "miou": 0.4875, "pixacc": 0.7183, "abs": 0.4179, "rel": 0.1734, "mean": 25.42,
    "median": 18.84, "within11": 0.3243, "within22": 0.5729, "within30": 0.6845,
}  # fmt: skip


def even_scores(data: str, factor: float = 1.0) -> Scores:
    """Scores of all tasks, the typical ones times a factor."""
    return {task.key: {m.key: factor * TYPICAL[m.key] for m in task.metrics} for task in TASKS[data]}


def make_record(data: str = "digits", method: str = "EW", seed: int = 0, **fields: Any) -> Record:
    """A finished run; any field of `Record` can be given instead."""
    key = method.lower().replace("-", "_")
    scores = even_scores(data)
    epochs = fields.get("epochs", fields.get("settings", {}).get("train", {}).get("epochs", 10))
    values: dict[str, Any] = {
        "status": "done",
        "data": data,
        "method": key,
        "architecture": "normal" if method == "NORMAL" else "hps",
        "weighting": "ew" if method == "NORMAL" else key,
        "variant": key,
        "seed": seed,
        "labels": Labels(data=data.capitalize(), method=method),
        "order": Order(
            data=list(TASKS).index(data), method=METHODS.index(method) if method in METHODS else len(METHODS)
        ),
        "kind": "multi-input" if data == "digits" else "single-input",
        "selection": "gain" if data == "rooms" else "accuracy",
        "settings": {"train": {"epochs": epochs, "lr": 0.003}, "weighting": {}},
        "tasks": TASKS[data],
        "validation": scores,
        "test": scores,
        "last_test": scores,
        "selected": Selected(epoch=min(8 + seed, epochs), rule="highest mean score on validation", score=0.9),
        "epochs": epochs,
        "steps": 100,
        "step_seconds": Timing(median=0.04, mean=0.05, steps=90, warmup=10),
        "parameters": Parameters(shared=25000, heads=2600, positions=4 if method == "NORMAL" else 0),
        "environment": {
            "torch": "2.0",
            "python": "3.11",
            "device": "cpu",
            "cpu": "a CPU",
            "threads": 1,
            "commit": "0123abc",
        },
    }
    values |= fields
    if values["selection"] == "accuracy" and values["selected"] is not None:
        values |= _selected_alike(values, given="selected" in fields)
    values["settings"] = upgraded_settings(values["settings"], values["architecture"], values["weighting"])
    return Record.model_validate(values)


def _selected_alike(values: dict[str, Any], *, given: bool) -> dict[str, Any]:
    """The selected score as the mean of the validation scores, or the latter as the former if that was given."""
    tasks, selected = [TaskRecord.model_validate(task) for task in values["tasks"]], values["selected"]
    firsts = {task.key: task.metrics[0].key for task in tasks if task.metrics}
    if not given:
        found = [values["validation"].get(task, {}).get(metric) for task, metric in firsts.items()]
        if None in found or not found:
            return {}
        return {"selected": selected.model_copy(update={"score": math.fsum(found) / len(found)})}
    score = Selected.model_validate(selected).score
    if not 0 <= score <= 1 or any(task not in values["validation"] for task in firsts):
        return {}
    return {
        "validation": {task: {**of, firsts[task]: score} for task, of in values["validation"].items() if task in firsts}
    }


def make_unfinished(status: str, reason: str, **fields: Any) -> Record:
    """A run that diverged or failed, with nothing to score."""
    nothing: dict[str, Any] = {"validation": {}, "test": {}, "last_test": {}, "selected": None, "step_seconds": None}
    return make_record(status=status, reason=reason, **{**nothing, **fields})


def make_study(data: str, methods: Sequence[str] = METHODS, seeds: Sequence[int] = (0, 1, 2)) -> list[Record]:
    """One run per method and seed, with scores spread as if they had been trained."""
    reference = {
        task.key: {m.key: TYPICAL[m.key] * (0.3 if m.direction == "higher" else 2.1) for m in task.metrics}
        for task in TASKS[data]
    }
    return [
        make_record(
            data,
            method,
            seed,
            test=_spread_scores(data, method, seed),
            reference=reference,
            step_seconds=Timing(median=0.04 * (1 + METHODS.index(method) / 9), mean=0.05, steps=90, warmup=10),
        )
        for method in methods
        for seed in seeds
    ]


def example_records() -> list[Record]:
    """Runs of three data sets, one of which diverged, for a reason with all characters that have to be escaped."""
    records = make_study("digits", ("EW", "CAGrad", "NORMAL"), range(7))
    records.append(make_unfinished("diverged", NASTY, method="MGDA", seed=0, order=records[0].order))
    return records + make_study("rooms", ("EW", "NORMAL"), (0, 1)) + make_study("faces", ("EW", "NORMAL"), (0, 1))


def _spread_scores(data: str, method: str, seed: int) -> Scores:
    draw = random.Random(f"{data} {method} {seed}")
    lift = 0.004 * METHODS.index(method)
    scores: Scores = {}
    for place, task in enumerate(TASKS[data]):
        scores[task.key] = {}
        for m in task.metrics:
            sign = 1 if m.direction == "higher" else -1
            change = sign * (lift + draw.gauss(0, 0.012)) - 0.004 * (place % 12)
            scores[task.key][m.key] = TYPICAL[m.key] * (1 + change)
    return scores


def write_runs(results: Path, records: Sequence[Record]) -> None:
    """The records in their folders, with curves, and positions for runs of NORMAL."""
    for record in records:
        folder = run_folder(results, record.data, record.variant, record.seed)
        write_record(folder, record)
        draw = random.Random(f"{record.variant} {record.seed}")
        rise = 0.25 + 0.03 * record.order.method + draw.gauss(0, 0.02)
        curve = [
            (epoch, 10 * epoch, 0.4 * epoch, 0.9 * (1 - math.exp(-rise * epoch)) + draw.gauss(0, 0.01))
            for epoch in range(1, record.epochs + 1)
        ]
        if "score" in (repeated := selected_scores(record)):
            epoch, score = repeated["score"]
            curve[epoch - 1] = (*curve[epoch - 1][:3], score)
        keys = [task.key for task in record.tasks]
        losses = [[math.exp(-rise * row[0]) * (1 + 0.1 * place) for place in range(len(keys))] for row in curve]
        columns = ("epoch", "step", "seconds", *(f"train/{key}" for key in keys), "score")
        write_csv(folder / CURVE, columns, [(*row[:3], *of, row[3]) for row, of in zip(curve, losses, strict=True)])
        if record.architecture == "normal":
            ends = [draw.gauss(0, 0.03) + 1.8 + 0.02 * place for place in range(len(keys))]
            rows = [
                (step, *(1 + (end - 1) * (1 - math.exp(-step / 40)) for end in ends)) for step in range(record.steps)
            ]
            write_csv(folder / POSITIONS, ("step", *keys), rows)


@contextmanager
def without_drawing() -> Iterator[None]:
    """Figures are saved empty, since drawing takes most of the time of a report."""

    def savefig(figure: Figure, file: Path | BinaryIO, **options: object) -> None:
        file.touch() if isinstance(file, Path) else file.write(b"<svg viewBox='0 0 1 1'/>")

    nothing = mock.patch.object(Figure, "draw_without_rendering", lambda figure: None)
    with nothing, mock.patch.object(Figure, "savefig", savefig):
        yield
