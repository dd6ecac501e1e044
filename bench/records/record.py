"""What is kept of one run: everything a report needs, raw and complete; nothing formatted, nothing derived."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION: Literal[1] = 1

Status = Literal["done", "diverged", "failed"]
Direction = Literal["higher", "lower"]
Scores = dict[str, dict[str, float]]  # task key -> metric key -> value, as computed (accuracy 0.93, not 93)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=True, ser_json_inf_nan="strings")


class MetricRecord(_Part):
    """One metric: which way is better, and its unit ("%" means that reports show 100 times the value)."""

    key: str
    label: str
    direction: Direction
    unit: str


class TaskRecord(_Part):
    """One task and the metrics that it is judged by, in the order of the tables."""

    key: str
    label: str
    metrics: list[MetricRecord]


class Labels(_Part):
    """Names as published."""

    data: str
    method: str


class Order(_Part):
    """Places in the registries, which follow the tables of the paper."""

    data: int
    method: int


class Selected(_Part):
    """Which epoch is reported (counted from 1) and the rule that picked it."""

    epoch: int
    rule: str
    score: float


class Timing(_Part):
    """Seconds per training step, synchronised, without evaluation; the first `warmup` steps are dropped."""

    median: float
    mean: float
    steps: int
    warmup: int


class Parameters(_Part):
    """Numbers of trainable parameters."""

    shared: int
    heads: int
    positions: int


class FieldEvaluations(_Part):
    """How often the field of a flow was evaluated over all training steps, ahead and by the adjoint equation."""

    forward: int
    backward: int


class Record(_Part):
    """One run: one method on one data set with one seed.

    kind: "multi-input" or "single-input" problem; selection: "accuracy" or "gain" (dense problems, which are
        compared by the relative gain over equal weighting).
    overrides: dotted settings that differ from the defaults of the method and the data set.
    reference: scores on test of the best answer that ignores the image (training mean, majority class).
    validation, test: scores of the selected epoch; last_test: of the last epoch.
    positions: learned task positions at the end of the selected epoch, by task key, for architectures that have them.
    reason: for runs that are not done, a sentence with step, task and value.
    steps: training steps taken. solver_fallbacks: steps at which a weighting took its documented substitute.
    field_evaluations: for architectures with a flow; those of evaluation on validation and test not counted.
    seconds: training time of the whole run, evaluation included, interruptions excluded.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    status: Status
    reason: str = ""
    data: str
    method: str
    architecture: str
    weighting: str
    variant: str
    seed: int
    labels: Labels
    order: Order
    kind: Literal["multi-input", "single-input"]
    selection: Literal["accuracy", "gain"]
    settings: dict[str, dict[str, Any]]
    overrides: dict[str, Any] = Field(default_factory=dict)
    tasks: list[TaskRecord]
    reference: Scores = Field(default_factory=dict)
    validation: Scores = Field(default_factory=dict)
    test: Scores = Field(default_factory=dict)
    last_test: Scores = Field(default_factory=dict)
    selected: Selected | None = None
    positions: dict[str, float] = Field(default_factory=dict)
    epochs: int = 0
    steps: int = 0
    step_seconds: Timing | None = None
    seconds: float = 0.0
    peak_memory_mib: float | None = None
    parameters: Parameters | None = None
    solver_fallbacks: int = 0
    field_evaluations: FieldEvaluations | None = None
    head_rule: str = ""
    splits: dict[str, Any] = Field(default_factory=dict)
    environment: dict[str, Any] = Field(default_factory=dict)
    versions: dict[str, int] = Field(default_factory=dict)
