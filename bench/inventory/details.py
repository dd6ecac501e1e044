"""Everything about one run, for people; and what differs between two."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.inventory.listing import aligned
from bench.inventory.states import FoundRun, score_text
from bench.records.plain_text import one_line
from bench.records.record import PERCENT, MetricRecord, Record, Scores
from bench.reporting.differences import flat
from bench.reporting.labels import show_value

_INDENT = "  "
# Of a record, what `diff` compares: not names, and nothing that a clock measures.
_COMPARED = (
    "status", "reason", "settings", "versions", "code", "environment", "splits", "fingerprint", "selected",
    "selected_by_task", "epochs", "steps", "unscored_epochs", "solver_fallbacks", "head_rule", "parameters",
    "reference", "validation", "test", "last_test", "positions", "resumed", "lost",
)  # fmt: skip
ABSENT = "--"


def description(run: FoundRun) -> str:
    """All that is known of a run, in paragraphs."""
    head = [f"{run.folder}", f"{run.state}{f': {run.note}' if run.note else ''}"]
    parts = [("", head), *(_of_record(run.record) if run.record else []), ("Files", _files(run.folder))]
    texts = []
    for title, lines in parts:
        indented = "\n".join(f"{_INDENT if title else ''}{line}" for line in lines)
        texts += [f"{title}\n{indented}" if title else indented] if lines else []
    return "\n\n".join(texts)


def _of_record(record: Record) -> Iterator[tuple[str, list[str]]]:
    """Titles and lines."""
    yield (
        "Run",
        _pairs(
            {
                "data": f"{record.labels.data} ({record.data})",
                "method": f"{record.labels.method} ({record.method})",
                "seed": record.seed,
                "epochs, steps": f"{record.epochs}, {record.steps}",
                "seconds": f"{record.seconds:.0f}",
                **({"peak memory": _peak_memory(record)} if record.peak_memory_mib else {}),
            }
        ),
    )
    yield "Why it is not done", [record.reason] if record.reason else []
    yield "Settings that differ from the defaults", _pairs(record.overrides) or ["none"]
    yield "Selected epoch", _selected(record)
    yield "Scores", _scores(record)
    yield "Positions", _pairs({task: f"{value:.4f}" for task, value in record.positions.items()})
    yield "Attempts before", [*record.lost, *record.resumed]
    yield "Versions", _pairs(record.versions) or ["not kept"]
    yield "Code", _pairs({part: f"{code.digest} {code.name}" for part, code in record.code.items()}) or ["not kept"]
    yield "Environment", _pairs(record.environment)
    yield "Data", _pairs({**record.splits, **{f"fingerprint {k}": v for k, v in record.fingerprint.items()}})


def _pairs(values: Mapping[str, Any]) -> list[str]:
    return aligned([(key, show_value(value)) for key, value in values.items()]).splitlines()


def _peak_memory(record: Record) -> str:
    idle = "" if record.idle_memory_mib is None else f", {record.idle_memory_mib:.0f} MiB of it without the run"
    return f"{record.peak_memory_mib:.0f} MiB{idle}"


def _selected(record: Record) -> list[str]:
    if record.selected is None:
        return []
    of_tasks = {task: one.epoch for task, one in record.selected_by_task.items()}
    lines = [f"{record.selected.epoch} ({record.selected.rule}), score {score_text(record)}"]
    return [*lines, *_pairs(of_tasks)]


def _scores(record: Record) -> list[str]:
    splits = {"validation": record.validation, "test": record.test, "test, last epoch": record.last_test}
    splits["dummy, test"] = record.reference
    splits = {name: scores for name, scores in splits.items() if scores}
    if not splits:
        return []
    rows = [
        (
            task.label,
            f"{metric.label} {'↑' if metric.direction == 'higher' else '↓'}",
            *_cells(task.key, metric, splits),
        )
        for task in record.tasks
        for metric in task.metrics
    ]
    return aligned([("task", "metric", *splits), *rows]).splitlines()


def _cells(task: str, metric: MetricRecord, splits: Mapping[str, Scores]) -> list[str]:
    values = [scores.get(task, {}).get(metric.key) for scores in splits.values()]
    return [ABSENT if value is None else _shown(value, metric.unit) for value in values]


def _shown(value: float, unit: str) -> str:
    return f"{100 * value:.2f} %" if unit == PERCENT else f"{value:.4f}{f' {unit}' if unit else ''}"


def _files(folder: Path) -> list[str]:
    rows = []
    for path in sorted(folder.rglob("*")):
        try:
            about = path.lstat()
        except OSError:
            continue
        if not path.is_dir():
            when = datetime.fromtimestamp(about.st_mtime).strftime("%Y-%m-%d %H:%M:%S")
            rows.append((str(path.relative_to(folder)), f"{about.st_size:,} bytes", when))
    return aligned(rows).splitlines() if rows else ["none"]


def difference(first: Record, second: Record, names: tuple[str, str]) -> str:
    """A line for each part that differs between two records, with both values; says so if nothing does."""
    one, other = (
        flat({part: record.model_dump(mode="json")[part] for part in _COMPARED}) for record in (first, second)
    )
    keys = [key for key in dict.fromkeys([*one, *other]) if one.get(key, ABSENT) != other.get(key, ABSENT)]
    if not keys:
        return f"{names[0]} and {names[1]} are equal in settings, versions, environment, data and scores."
    rows = [(key, show_value(one.get(key, ABSENT)), show_value(other.get(key, ABSENT))) for key in keys]
    return aligned([("", *names), *([one_line(cell) for cell in row] for row in rows)])
