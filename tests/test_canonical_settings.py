"""Settings have one form: a run is recognised by its record and by its checkpoint, whatever values it was given."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import for_every
from record_factory import make_record

from bench.records.canonical import canonical
from bench.records.record import LARGEST_SEED, Record
from bench.records.store import RECORD, read_record
from bench.records.upgrade import upgraded_settings
from bench.spec.kept import is_kept
from bench.spec.resolve import RunSpec, resolve
from bench.spec.settings import SpecError
from bench.spec.versions import versions_of
from methods import ARCHITECTURES, WEIGHTINGS

INFINITE = {(name, "max_norm") for name in ("nash_mtl", "fairgrad", "frozen")}
# As YAML gives them; "1e-3" is a string in YAML 1.1.
VALUES = (
    0, 1, 2, 3, 1.0, 0.5, "0.5", "1e-3", 1e-3, -0.0, "-0.0", [-0.0, 1], -1, 0.1 + 0.2, 5e-324, 2.0**-1074, 1e308,
    1e16, 10**16, 2**63 - 1, 2**63, 10**5000, float("inf"), float("-inf"), float("nan"), "Infinity", "nan", "1e400",
    True, False, "true", "yes", None, "", "none", "\x00", "a\nb", "\udcff", "\u0663", "x" * 5000, [], [1], (1, 2.0),
    ["1", 2], [1, 2, 3, 4], [float("inf")], [True, 1], [[1]], {}, {"a": 1}, b"1", {1, 2}, "paper", "released", "plain",
)  # fmt: skip


def sections(weighting: str, architecture: str) -> Iterator[tuple[str, str]]:
    """All settings of a run, as section and key."""
    for section, values in resolve("digits", architecture=architecture, weighting=weighting).settings.as_dict().items():
        yield from ((section, key) for key in values)


def accepted(weighting: str, architecture: str, key: str, value: Any) -> RunSpec | None:
    try:
        return resolve("digits", architecture=architecture, weighting=weighting, assignments={key: value})
    except ValueError as error:  # SpecError or UnknownName
        assert len(str(error)) < 1500 and "\n" not in str(error) and str(error).isprintable(), (key, value, str(error))
        return None


def record_of(spec: RunSpec) -> Record:
    names = {"architecture": spec.architecture, "weighting": spec.weighting, "variant": spec.variant}
    settings = {"settings": spec.settings.as_dict(), "overrides": dict(spec.overrides), "versions": versions_of(spec)}
    epochs = spec.settings.train.epochs
    return make_record(epochs=epochs).model_copy(update={**names, **settings})


def same_in_checkpoint(specs: Sequence[RunSpec]) -> bool:
    """Whether settings are the same after they have been in a checkpoint."""
    saved = io.BytesIO()
    torch.save([spec.settings.as_dict() for spec in specs], saved)
    saved.seek(0)
    loaded = torch.load(saved, weights_only=True)
    upgraded = [
        upgraded_settings(old, spec.architecture, spec.weighting) for old, spec in zip(loaded, specs, strict=True)
    ]
    return upgraded == [spec.settings.as_dict() for spec in specs]


def recognised(spec: RunSpec, folder: Path) -> bool:
    """Whether a run that was recorded is found again by its settings."""
    (folder / RECORD).write_text(record_of(spec).model_dump_json())  # quicker than write_record, which flushes
    record = read_record(folder / RECORD)
    # The settings of the record, typed in again, are the same run in the same folder.
    again = resolve(
        "digits", architecture=spec.architecture, weighting=spec.weighting, assignments=dict(record.overrides)
    )
    return (
        is_kept(spec, record, folder / RECORD, None)
        and record.overrides == spec.overrides
        and (again.variant, again.settings) == (spec.variant, spec.settings)
        and json.loads(json.dumps(again.settings.as_dict(), allow_nan=False)) == spec.settings.as_dict()
    )


@for_every("weighting, architecture", [("ew", "normal"), ("nash_mtl", "hps")])
def test_values_that_are_accepted_are_recognised_in_the_record(
    weighting: str, architecture: str, tmp_path: Path
) -> None:
    check_values(weighting, architecture, tmp_path)


@pytest.mark.slow
@for_every("weighting, architecture", [(w, "hps") for w in WEIGHTINGS] + [("ew", a) for a in ARCHITECTURES])
def test_every_value_that_is_accepted_is_recognised_in_the_record(
    weighting: str, architecture: str, tmp_path: Path
) -> None:
    check_values(weighting, architecture, tmp_path)


def check_values(weighting: str, architecture: str, tmp_path: Path) -> None:
    shared = ("train", "data", "backbone", "heads", "compute")
    for section, key in sections(weighting, architecture):
        if section in shared and (weighting, architecture) != ("ew", "hps"):  # the same for all
            continue
        seen: dict[str, RunSpec] = {}
        for value in VALUES:
            spec = accepted(weighting, architecture, f"{section}.{key}", value)
            if spec is None or seen.get(spec.variant) == spec:
                continue
            assert spec.variant not in seen, "one variant for two sets of settings"
            seen[spec.variant] = spec
            assert recognised(spec, tmp_path), (weighting, section, key, value)
            found = getattr(getattr(spec.settings, section), key, None)
            if found == float("inf"):
                assert (weighting, key) in INFINITE
        assert same_in_checkpoint(list(seen.values()))
    for key in [key for name, key in INFINITE if name == weighting]:
        assert accepted(weighting, architecture, f"weighting.{key}", float("inf")) is not None


def test_equal_values_are_the_same_run() -> None:
    def variants(method: str, key: str, *values: Any) -> set[str]:
        return {resolve("digits", method, assignments={key: value}).variant for value in values}

    for method, key, values in (
        ("cagrad", "weighting.c", (1, 1.0, "1", "1.0", "1e0", 10**0)),
        ("cagrad", "weighting.c", (0, 0.0, -0.0, "-0", "-0.0")),
        ("ew", "train.lr", (1e-4, "1e-4", "0.0001", 0.0001)),
        ("ew", "train.epochs", (3, 3.0, "3")),
        ("ew", "compute.tf32", (True, 1, "true", "yes")),
        ("normal", "arch.initial_positions", ([2, -0.0, 1, 0], (2.0, 0.0, 1.0, 0), ["2", "0", "1", "-0"])),
        ("nash_mtl", "weighting.max_norm", (float("inf"), "inf", "Infinity", ".inf"[1:])),
    ):
        assert len(variants(method, key, *values)) == 1, key


def test_settings_that_never_matched_their_record(tmp_path: Path) -> None:
    spec = resolve("digits", "nash_mtl", assignments={"weighting.max_norm": float("inf")})
    assert spec.settings.as_dict()["weighting"]["max_norm"] == "Infinity"
    assert spec.overrides == {"weighting.max_norm": "Infinity"}
    assert spec.variant == "nash_mtl@38ade9d9"  # as it was while such runs could be trained but not recognised
    assert recognised(spec, tmp_path)


def test_older_checkpoints_are_read_in_the_same_form() -> None:
    """They have infinite floats, tuples and −0.0."""
    spec = resolve("digits", "nash_mtl", assignments={"weighting.max_norm": float("inf"), "train.lr": 0.0})
    old = spec.settings.as_dict()
    old["weighting"]["max_norm"], old["train"]["lr"] = float("inf"), -0.0
    assert upgraded_settings(old, "hps", "nash_mtl") == spec.settings.as_dict()
    assert canonical({"a": (1, -0.0, [float("-inf")]), "b": None}) == {"a": [1, 0.0, ["-Infinity"]], "b": None}
    assert str(canonical(-0.0)) == "0.0" and canonical(float("nan")) == "NaN" and canonical(True) is True


def test_values_without_meaning_are_refused() -> None:
    for method, key, value, message in (
        ("cagrad", "weighting.c", float("inf"), r"weighting\.c: expected a finite number, found inf\."),
        ("cagrad", "weighting.c", float("nan"), "`c` must be ≥ 0, found nan"),
        ("normal", "arch.xi", "-inf", r"arch\.xi: expected a finite number, found '-inf'\."),
        ("normal", "arch.initial_positions", [float("nan")], "expected a finite number, found nan"),
        ("ew", "train.clip_norm", float("inf"), "expected a finite number, found inf"),
        ("ew", "train.epochs", True, r"train\.epochs: expected a number, found True\."),
        ("fixed", "weighting.weights", [True, 1, 1, 1], "expected a number, found True"),
        ("ew", "train.epochs", 10**5000, "found a larger one"),
        ("ew", "train.epochs", 1_000_001, "must be ≤ 1000000"),
        ("ew", "data.split_seed", -1, "`split_seed` must be ≥ 0, found -1"),
        ("ew", "data.image_size", [0, 5], "`image_size` must be from 1"),
        ("ew", "backbone.weights", "a\x1b[31m\n", r"found 'a\\x1b\[31m\\n'"),
        ("ew", "data.splits", "~no such user/lists", "expected a folder with lists"),
        ("fixed", "weighting.weights", {1: 2}, "expected a number, a text or a list"),
    ):
        with pytest.raises(SpecError, match=message):
            resolve("digits", method, assignments={key: value})


def test_seeds() -> None:
    for seed in (0, 1, LARGEST_SEED):
        assert resolve("digits", "ew", seed=seed).seed == seed
    for seed in (-1, LARGEST_SEED + 1, 10**5000):
        with pytest.raises(SpecError, match="Expected a seed from 0 to 4,294,967,295"):
            resolve("digits", "ew", seed=seed)


def test_every_number_of_every_weighting_and_architecture_is_covered() -> None:
    """VALUES must hold a value other than the default that each of them accepts, or the test above shows nothing."""
    for weighting, architecture in [(w, "hps") for w in WEIGHTINGS] + [("ew", a) for a in ARCHITECTURES]:
        settings = resolve("digits", architecture=architecture, weighting=weighting).settings
        for section in ("arch", "weighting"):
            part = getattr(settings, section)
            numbers = [f.name for f in dataclasses.fields(part) if isinstance(getattr(part, f.name), int | float)]
            for key in numbers:
                specs = (accepted(weighting, architecture, f"{section}.{key}", value) for value in VALUES)
                assert any(spec is not None and spec.overrides for spec in specs), (weighting, key)
