"""The record of one run: everything that a report needs, as raw numbers; nothing formatted, nothing derived."""

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
    """One metric.

    direction: whether higher or lower is better.
    unit: "%" means that reports show 100 times the value.
    """

    key: str
    label: str
    direction: Direction
    unit: str


class TaskRecord(_Part):
    """One task and its metrics, in the order of the tables."""

    key: str
    label: str
    metrics: list[MetricRecord]


class Labels(_Part):
    """Names as published."""

    data: str
    method: str


class Order(_Part):
    """Indices in the registries, whose order is that of the paper's tables."""

    data: int
    method: int


class Selected(_Part):
    """The reported epoch (counted from 1), the rule that selected it, and its score."""

    epoch: int
    rule: str
    score: float


class Timing(_Part):
    """Seconds per training step, synchronised with the device; the first `warmup` steps are dropped."""

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
    """Evaluations of a flow's field in all training steps: in the forward pass, and by the adjoint equation."""

    forward: int
    backward: int


class Record(_Part):
    """One run: one method on one data set with one seed.

    reason: for a run that is not done, a sentence with step, task and value.
    kind: whether each task has its own images ("multi-input") or all tasks share them ("single-input").
    selection: what selects the epoch and compares methods: "accuracy", or "gain" over a baseline (dense problems).
    settings: all settings, by section.
    overrides: dotted settings that differ from the defaults of the method and the data set.
    reference: test scores of the dummy baseline, the best constant prediction (training mean, majority class).
    validation, test: scores of the selected epoch.
    last_test: test scores of the last epoch.
    positions: learned task positions at the end of the selected epoch, by task key; empty without positions.
    steps: training steps taken.
    batches: that a step reads; more than one for a weighting that compares gradients of several.
    seconds: wall-clock time of training and evaluation, without interruptions.
    solver_fallbacks: steps at which the weighting used its documented substitute.
    field_evaluations: None without a flow. Evaluations on validation and test are not counted.
    fingerprint: of the data, by part: a hash of its images and targets in their order; and of the whole, whatever the
        partition. Empty in records made before fingerprints were kept.
    resumed: what changed when the run was resumed, one sentence each: another device, another number of threads.
    lost: how earlier attempts ended, one sentence each: the signal that killed the process.
    versions: of the engine, the weighting, the architecture, the problem and, for embedded data, its maker. Empty in
        records made before versions were kept.
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
    batches: int = 1
    step_seconds: Timing | None = None
    seconds: float = 0.0
    peak_memory_mib: float | None = None
    parameters: Parameters | None = None
    solver_fallbacks: int = 0
    field_evaluations: FieldEvaluations | None = None
    head_rule: str = ""
    splits: dict[str, Any] = Field(default_factory=dict)
    fingerprint: dict[str, str] = Field(default_factory=dict)
    environment: dict[str, Any] = Field(default_factory=dict)
    resumed: list[str] = Field(default_factory=list)
    lost: list[str] = Field(default_factory=list)
    versions: dict[str, int] = Field(default_factory=dict)
