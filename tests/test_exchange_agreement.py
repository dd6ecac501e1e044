"""Runs that are called what they are not, lack settings, or have another baseline are refused or named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from exchange_cases import made, printed, refused, write_runs

from bench.exchange.agreement import disagreements
from bench.exchange.shared_runs import SharedRun
from bench.records.record import Record
from bench.records.upgrade import upgraded_settings
from bench.spec.resolve import resolve

REFERENCE = {"plain": {"accuracy": 0.3}}


def without(record: Record, section: str, key: str) -> dict[str, Any]:
    """Its settings but one, as a field."""
    kept = {name: value for name, value in record.settings[section].items() if name != key}
    return {"settings": {**record.settings, section: kept}}


def with_value(record: Record, section: str, key: str, value: object) -> dict[str, Any]:
    return {"settings": {**record.settings, section: {**record.settings[section], key: value}}}


EW = made()
ODD: dict[str, tuple[dict[str, Any], str]] = {
    "label of another method": (
        {"labels": {"data": "Digits", "method": "UW"}},
        "labels.method: expected no label of another method, found that of uw for 'ew'",
    ),
    "label of no method": ({"labels": {"data": "Digits", "method": "X"}}, "labels.method: expected 'EW' as the other"),
    "label of the data": ({"labels": {"data": "X", "method": "EW"}}, "labels.data: expected 'Digits' as the other"),
    "weighting": ({"weighting": "uw"}, "architecture and weighting: expected hps and ew, as ew has"),
    "architecture": ({"architecture": "hps_extra"}, "architecture and weighting: expected hps and ew, as ew has"),
    "control": ({"control": True}, "control: expected false, as digits is none, found true"),
    "a setting is missing": (without(EW, "train", "lr"), "train.lr: expected 0.003 as the other runs of digits have"),
    "a setting is no number": (with_value(EW, "train", "lr", {}), "train.lr: expected 0.003 as the other runs"),
    "a further setting": (with_value(EW, "train", "foo", 1), "train.foo: expected none as the other runs of digits"),
    "a nested setting": (with_value(EW, "data", "protocol", {"a": 1}), "data.protocol.a: expected none as"),
    "reference": ({"reference": {"plain": {"accuracy": 0.4}}}, "expected the reference of other runs on the same"),
    "no reference": ({"reference": {}}, "expected the reference of other runs on the same data, found another"),
    "seed of the splits": ({"splits": {"seed": 7, "counts": {"test": 9}}}, "seed of the splits: expected 0 as the"),
    "counts of the splits": ({"splits": {"seed": 0, "counts": {"test": 8}}}, "counts of the splits: expected"),
    "no scores on validation": (
        {"validation": {}, "selected": {"epoch": 8, "rule": "highest mean score on validation", "score": 0.9}},
        "scores on validation: expected 'some' as the other runs",
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_runs_that_are_not_like_the_others_are_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fields, message = ODD[name]
    shared = {"reference": REFERENCE, "splits": {"seed": 0, "counts": {"test": 9}}}
    write_runs(tmp_path / "here", [made(seed=seed, **shared) for seed in (0, 1, 2)])
    odd = made("EW", 7, **shared).model_copy(update={})
    values = {**odd.model_dump(), **fields}
    write_runs(tmp_path / "there", [Record.model_validate(values)])
    error = refused(capsys, "merge", tmp_path / "there", "--into", tmp_path / "here")
    assert message in error and "digits/ew/seed-7" in error


def test_swapped_labels_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = [{"data": "Digits", "method": name} for name in ("UW", "EW")]
    write_runs(tmp_path / "a", [made("EW", labels=labels[0]), made("UW", labels=labels[1])])
    error = refused(capsys, "merge", tmp_path / "a", "--into", tmp_path / "b")
    assert "found that of uw for 'ew'" in error and "found that of ew for 'uw'" in error
    # Nor may two methods that this code doesn't know have the same label.
    own = [made("Mine", labels=labels[0] | {"method": "M"}), made("Yours", labels=labels[0] | {"method": "M"})]
    write_runs(tmp_path / "c", own)
    assert "method: expected 'mine' as the other runs of the label M have" in refused(capsys, "check", tmp_path / "c")


def test_a_baseline_that_differs_by_rounding_is_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_runs(tmp_path / "a", [made(reference=REFERENCE)])
    write_runs(tmp_path / "b", [made(seed=1, reference={"plain": {"accuracy": 0.3000001}})])
    assert "Merged 1 run into" in printed(capsys, "merge", tmp_path / "b", "--into", tmp_path / "a")


def test_other_defaults_than_those_of_this_code_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    now = resolve("digits", "ew").settings.as_dict()
    epochs = now["train"]["epochs"]
    same = upgraded_settings(now, "hps", "ew")
    write_runs(tmp_path / "a", [made(settings=same, epochs=epochs)])
    assert "other settings" not in printed(capsys, "check", tmp_path / "a")
    other = {**same, "train": {**same["train"], "lr": 0.5}}
    write_runs(tmp_path / "b", [made(settings=other, epochs=epochs)])
    remark = f"other settings than the defaults of this code: train.lr=0.5 (here {now['train']['lr']})"
    assert remark in printed(capsys, "check", tmp_path / "b")
    assert remark in printed(capsys, "merge", tmp_path / "b", "--into", tmp_path / "c")
    write_runs(tmp_path / "d", [made("Mine")])
    assert "not compared with the settings of this code (Unknown weighting 'mine'" in printed(
        capsys, "check", tmp_path / "d"
    )


def test_runs_without_outcomes_per_item_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from bench.exchange.data_agreement import unmarked_data

    remarks = list(unmarked_data([made(items="0123"), made("UW"), made("MGDA", validation={})]))
    assert remarks == ["digits: no outcomes per test item of digits/uw/seed-0; other runs have them."]


@pytest.mark.parametrize("name", ["Seed-0", ".seed-0", "old/seed-0"])
def test_runs_in_folders_of_other_names_are_named(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_runs(tmp_path / "a", [made(), made("UW")])
    place = tmp_path / "a" / "digits" / "ew"
    (place / name).parent.mkdir(exist_ok=True)
    (place / "seed-0").rename(place / name)
    out = printed(capsys, "merge", tmp_path / "a", "--into", tmp_path / "b")
    assert f"left out: {place / name.split('/')[0]}: expected data/variant/seed-<s>" in out and "Merged 1 run" in out


def test_a_hidden_data_set_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_runs(tmp_path / "a", [made(), made("UW").model_copy(update={"data": "rooms"})])
    (tmp_path / "a" / "rooms").rename(tmp_path / "a" / ".rooms")
    (tmp_path / "a" / ".slurm").mkdir()
    out = printed(capsys, "check", tmp_path / "a")
    assert f"left out: {tmp_path / 'a' / '.rooms'}: expected data/variant" in out and ".slurm" not in out


def test_runs_without_validation_may_average_other_numbers_of_epochs() -> None:
    """The rule names the number, which follows from the epochs of the run."""
    runs = []
    for epochs in (2, 12):
        rule = f"none: the mean of the last {min(epochs, 10)} epochs on test is reported"
        selected = {"epoch": epochs, "rule": rule, "score": 0.9}
        runs.append(made(**with_value(EW, "train", "epochs", epochs), validation={}, selected=selected, epochs=epochs))
        runs[-1] = runs[-1].model_copy(update={"overrides": {"train.epochs": epochs}})
    assert not disagreements([SharedRun("there", Path(), run, {}) for run in runs], [])
