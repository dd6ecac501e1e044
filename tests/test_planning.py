"""Planning: which runs are kept, what is said about old ones, and combinations that are refused before training."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from bench import ROOT, run
from bench.records.store import RECORD, read_record, run_folder, write_record
from bench.spec import versions
from bench.spec.planning import make_plan
from bench.spec.request import PlanError, Request
from bench.spec.resolve import resolve
from bench.spec.settings import SpecError
from bench.spec.study import StudyRow, load_study
from bench.spec.versions import versions_of
from datasets import DATASETS

REFERENCE = ROOT / "results" / "reference"
A_RECORD = run_folder(REFERENCE / "ablation", "digits", "ew", 0) / RECORD


def test_all_reference_records_are_kept(tmp_path: Path) -> None:
    kept = 0
    for name in ("ablation", "shortcuts", "eta", "sizes", "fronts", "relations"):
        study = load_study(name)
        data = [data for data in study.data if data in ("digits", "rooms", "faces")]
        plan = make_plan(Request(study.rows, data, study.seeds), tmp_path, REFERENCE / study.folder, make_data=False)
        assert not plan.pending, name
        kept += len(plan.kept)
    folder, apart = REFERENCE / "trust", {REFERENCE / "trust", REFERENCE / "gpu"}
    others = [path for path in REFERENCE.rglob(RECORD) if not apart & set(path.parents)]
    assert kept == len(others) > 0
    study = load_study(str(folder / "tuned.yaml"))
    rows = [row for row in study.rows if not row.twin_of]
    problems = ["digits", "rooms", "faces", "flowtimes"]
    plan = make_plan(Request(rows, problems, study.seeds), tmp_path, folder, make_data=False)
    assert not plan.pending and len(plan.kept) == 4 * 13 * 10


@pytest.mark.parametrize("key", ["../x", "my data", "x" * 121])
def test_keys_that_cannot_name_files_are_refused_before_training(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DATASETS, key, DATASETS["digits"])
    with pytest.raises(SpecError, match=r"key of a data set: expected a name of at most 120 .* where it is registered"):
        resolve(key, "ew")
    (task, *others) = DATASETS["digits"].tasks
    tasks = (dataclasses.replace(task, key=key), *others)
    monkeypatch.setitem(DATASETS, "digits", dataclasses.replace(DATASETS["digits"], tasks=tasks))
    with pytest.raises(SpecError, match="digits, key of a task: expected a name"):
        resolve("digits", "ew")


def test_a_kept_run_of_other_versions_is_kept_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = resolve("digits", "pcgrad")
    of_pcgrad = {"method": "pcgrad", "weighting": "pcgrad", "variant": "pcgrad", "code": {}}
    example = read_record(A_RECORD).model_copy(update=of_pcgrad | {"settings": spec.settings.as_dict()})
    now = versions_of(spec)
    assert now == {"engine": 1, "weighting": 1, "architecture": 1, "problem": 4, "maker": 2}
    assert "maker" not in versions_of(resolve("celeba", "pcgrad"))
    folder = run_folder(tmp_path, "digits", "pcgrad", 0)
    options = ["--method", "pcgrad", "--data", "digits", "--seeds", "0", "--dry-run"]
    options += ["--results", str(tmp_path), "--data-root", str(tmp_path)]

    for then, engine, difference in (
        (now, 1, ""),
        ({}, 1, "before versions were kept"),
        (
            now | {"weighting": 3},
            2,
            "with version 1 of the engine (today 2), version 3 of weighting pcgrad (today 1)",
        ),
    ):
        write_record(folder, example.model_copy(update={"versions": then}))
        monkeypatch.setattr(versions, "ENGINE_VERSION", engine)
        assert run.main(options) == 0
        *remarks, counts = capsys.readouterr().out.splitlines()
        assert counts == "0 runs to train, 1 already kept."
        advice = "Train again with --stale."
        assert remarks == ([f"digits: 1 kept run was made {difference}. {advice}"] if difference else []), difference


def test_a_record_of_an_older_version_is_kept_whatever_its_defaults_were(tmp_path: Path) -> None:
    """Records of MGDA of version 1, whose default is today's variant "paper"."""
    example = read_record(run_folder(REFERENCE / "shortcuts", "digits", "mgda", 0) / RECORD)
    assert example.settings["weighting"]["variant"] != "paper"
    example.settings["weighting"]["variant"] = "paper"
    folder = run_folder(tmp_path, "digits", "mgda", 0)
    request = Request([StudyRow(method="mgda")], ["digits"], [0])
    for version, kept in ((None, 1), (1, 1), (2, 0)):
        versions = {} if version is None else {"weighting": version}
        write_record(folder, example.model_copy(update={"versions": versions}))
        if kept:
            assert len(make_plan(request, tmp_path, tmp_path, make_data=False).kept) == 1
        else:
            with pytest.raises(PlanError, match="made with other settings"):
                make_plan(request, tmp_path, tmp_path, make_data=False)


def test_a_record_of_other_settings_is_refused(tmp_path: Path) -> None:
    example, spec = read_record(A_RECORD), resolve("digits", "ew")
    example = example.model_copy(update={"settings": spec.settings.as_dict(), "versions": versions_of(spec)})
    example.settings["train"]["lr"] = 1.0
    write_record(run_folder(tmp_path, "digits", "ew", 0), example)
    with pytest.raises(PlanError, match=r"ew/seed-0/record\.json: made with other settings"):
        make_plan(Request([StudyRow(method="ew")], ["digits"], [0]), tmp_path, tmp_path, make_data=False)


def test_backbones_and_heads_that_do_not_fit_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for data, key, value, message in (
        (
            "digits",
            "backbone.name",
            "small_dense",
            r"one of small, .* with Digits, .*feature vectors, found small_dense",
        ),
        ("rooms", "backbone.name", "small", r"one of small_dense, .* with Rooms, .*feature maps, found small\."),
        (
            "celeba",
            "heads.name",
            "conv",
            r"heads\.name: expected one of linear, frozen_readout with CelebA, .* found conv\.",
        ),
        ("nyuv2", "heads.name", "linear", r"heads\.name: expected one of conv, aspp with NYUv2, .* found linear\."),
    ):
        with pytest.raises(SpecError, match=message):
            resolve(data, "ew", assignments={key: value})
    for data, assignments in (
        ("digits", {"backbone.name": "resnet50"}),
        ("rooms", {"backbone.name": "resnet18_dilated", "heads.name": "aspp"}),
    ):
        assert resolve(data, "ew", assignments=assignments).overrides == assignments
    options = ["--method", "ew", "--data", "digits", "--set", "backbone.name=small_dense"]
    assert run.main([*options, "--results", str(tmp_path), "--data-root", str(tmp_path), "--dry-run"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
