"""Reads old records as a description of what the code did when they were made.

A setting that was added later is missing from older records. The tables below say what the code did before each
setting existed. They hold values, never references to today's defaults: a default that changes later must not change
what an old record says. A new setting needs a line here; tests/test_versions.py checks that it has one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.records.canonical import canonical

Sections = Mapping[str, Mapping[str, Any]]

# Settings that every run has.
ADDED: Sections = {
    "train": {"cosines_every": 0, "accumulate": 1, "clip_norm": 0.0},
    "data": {
        "split_per_seed": False,
        "splits": "",
        "protocol": "heldout",
        "augment": False,
        "metrics_batch": 0,
        "tasks": [],
        "train_share": 1.0,
    },
    "backbone": {"bottleneck": False},
    "weighting": {"every": 1, "momentum": 0.0, "grad_space": "shared"},
    "compute": {
        "precision": "fp32",
        "channels_last": False,
        "compile": False,
        "tf32": False,
        "cudnn_benchmark": False,
        "cuda_graphs": False,
        "backward": "looped",
        "processes": 1,
    },
}
# Settings of one architecture (section "arch") or of one weighting (section "weighting"), by its key.
ADDED_TO_ARCHITECTURES: Sections = {
    "normal": {"tolerance": 1e-5, "position_optimizer": "plain", "updates": "joint"},
}
ADDED_TO_WEIGHTINGS: Sections = {
    "graddrop": {"variant": "paper"},
    "moco": {"variant": "paper"},
    "stch": {"variant": "released"},
    "mgda": {"variant": "paper", "preference": [1.0]},
    "cagrad": {"variant": "paper"},
    "fairgrad": {"variant": "paper", "max_norm": 1.0},
}

# Shares that had no unit, by the key of their metric, and the labels of some.
SHARES = ("miou", "pixel_accuracy", "within_11.25", "within_22.5", "within_30")
LABELS = {"11.25": "within 11.25°", "22.5": "within 22.5°", "30": "within 30°"}

RULES = {
    "highest mean log gain over the constant answer on validation": (
        "highest mean log gain over the dummy baseline on validation"
    ),
}

_OLD_DOPRI5_TOLERANCE = 1e-7  # torchdiffeq's default for the relative tolerance, used before the setting existed


def upgraded_record(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The content of record.json in today's form. Invalid parts stay as they are, for validation to report."""
    record = dict(raw)
    if isinstance(raw.get("overrides"), dict):
        record["overrides"] = canonical(raw["overrides"])
    settings, selected, environment = raw.get("settings"), raw.get("selected"), raw.get("environment")
    if isinstance(settings, dict) and all(isinstance(section, dict) for section in settings.values()):
        device = environment.get("device", "cpu") if isinstance(environment, dict) else "cpu"
        record["settings"] = upgraded_settings(
            settings, str(raw.get("architecture")), str(raw.get("weighting")), str(device)
        )
    rule = selected.get("rule") if isinstance(selected, dict) else None
    if isinstance(selected, dict) and isinstance(rule, str) and rule in RULES:
        record["selected"] = {**selected, "rule": RULES[rule]}
    if isinstance(raw.get("tasks"), list):
        record["tasks"] = [_upgraded_task(task) for task in raw["tasks"]]
    return record


def _upgraded_task(task: Any) -> Any:
    """A task of a record, whose shares have the unit of shares."""
    if not isinstance(task, dict) or not isinstance(task.get("metrics"), list):
        return task
    return {**task, "metrics": [_upgraded_metric(metric) for metric in task["metrics"]]}


def _upgraded_metric(metric: Any) -> Any:
    if not isinstance(metric, dict) or metric.get("key") not in SHARES or metric.get("unit") != "":
        return metric
    return {**metric, "unit": "%", "label": LABELS.get(str(metric.get("label")), metric.get("label"))}


def upgraded_settings(
    settings: Sections, architecture: str, weighting: str, device: str = "cpu"
) -> dict[str, dict[str, Any]]:
    """The settings of a record or a checkpoint in canonical form, with a value for every setting that was added later.

    architecture, weighting: their keys.
    device: that of the run, as in the record's environment ("cpu", "cuda: …").
    """
    upgraded = {name: dict(section) for name, section in _as_then(settings, weighting, device).items()}
    for name, section in _added(architecture, weighting).items():
        upgraded[name] = {**section, **upgraded.get(name, {})}
    return {name: canonical(section) for name, section in upgraded.items()}


def _added(architecture: str, weighting: str) -> Sections:
    return {
        **ADDED,
        "arch": ADDED_TO_ARCHITECTURES.get(architecture, {}),
        "weighting": {**ADDED["weighting"], **ADDED_TO_WEIGHTINGS.get(weighting, {})},
    }


def _as_then(settings: Sections, weighting: str, device: str) -> Sections:
    """The settings with those values filled in, or keys removed, that depend on the other settings."""
    changed = {name: dict(section) for name, section in settings.items()}
    arch, compute, weights = (changed.setdefault(name, {}) for name in ("arch", "compute", "weighting"))
    if arch.get("solver") == "dopri5":
        arch.setdefault("tolerance", _OLD_DOPRI5_TOLERANCE)
    if device != "cpu":
        compute.setdefault("tf32", True)  # torch's default for convolutions, which was left as it was
    # Nash-MTL could solve every k steps, with a Jacobian at each. No run of today does the same for k > 1: the key
    # stays, so that such a record never passes for one of `weighting.every`.
    if weighting == "nash_mtl" and weights.get("update_every") == 1:
        del weights["update_every"]
    # Of the pairs of options that MoCo had, only this one is a variant of today. The others stay, for the same reason.
    if weighting == "moco" and (weights.get("normalisation"), weights.get("simplex")) == ("none", "projection"):
        del weights["normalisation"], weights["simplex"]
    if weighting == "stch" and "objective" in weights:
        weights["variant"] = "paper" if weights.pop("objective") == "plain" else "released"
    return changed
