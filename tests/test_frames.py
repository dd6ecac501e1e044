"""Records as tables of pandas: tidy, complete, without torch; bad files are named."""

from __future__ import annotations

import math
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas
import pytest
from record_factory import make_record, make_study, make_unfinished, write_runs

import bench
from bench import ROOT, runs
from bench.records import parquet
from bench.records.frames import ITEM_COLUMNS, POSITION_COLUMNS, RUN, RUNS, LeftOut
from bench.records.items import write_items
from bench.records.record import Record, Selected
from bench.records.store import CURVE, POSITIONS, RECORD, RecordError, run_folder, write_record

HOSTILE = 'a_b & 100% {x} <script>, "q"\n'


@pytest.fixture
def records(tmp_path: Path) -> list[Record]:
    found = [*make_study("digits", ("EW", "NORMAL"), (0, 1)), *make_study("rooms", ("EW",), (0,))]
    found.append(make_unfinished("failed", HOSTILE, method="UW", overrides={"train.lr": 0.5, "data.tasks": ["a", "b"]}))
    write_runs(tmp_path, found)
    return found


def test_runs_have_a_row_per_split_task_and_metric(records: list[Record], tmp_path: Path) -> None:
    frame = bench.load_runs(tmp_path)
    assert tuple(frame.columns) == (*RUNS, "train.lr", "data.tasks")
    assert len(frame) == sum(3 * sum(len(task.metrics) for task in one.tasks) for one in records[:-1]) + 1
    assert not frame.duplicated([*RUN, "split", "task", "metric"]).any()
    for record in records[:-1]:
        own = frame[(frame.data == record.data) & (frame.variant == record.variant) & (frame.seed == record.seed)]
        for task in record.tasks:
            for metric in task.metrics:
                row = own[(own.split == "test") & (own.task == task.key) & (own.metric == metric.key)]
                assert row.value.item() == record.test[task.key][metric.key]
                assert (row.direction.item(), row.unit.item()) == (metric.direction, metric.unit)
        assert record.selected is not None and set(own[own.split != "last_test"].epoch) == {record.selected.epoch}
        assert set(own[own.split == "last_test"].epoch) == {record.epochs}
    failed = frame[frame.status == "failed"]
    assert len(failed) == 1 and failed.reason.item() == HOSTILE and math.isnan(failed.value.item())
    assert failed["train.lr"].item() == 0.5 and failed["data.tasks"].item() == "['a', 'b']"


def test_each_task_has_the_epoch_that_is_its_own(tmp_path: Path) -> None:
    epochs = {"plain": 3, "colour": 5, "outline": 7, "noisy": 9}
    own = {task: Selected(epoch=epoch, rule="its own", score=0.9) for task, epoch in epochs.items()}
    write_runs(tmp_path, [make_record(selected=Selected(epoch=9, rule="its own", score=0.9), selected_by_task=own)])
    frame = bench.load_runs(tmp_path)
    assert dict(frame[frame.split == "test"].set_index("task").epoch) == epochs


def test_names_choose_runs(records: list[Record], tmp_path: Path) -> None:
    assert set(bench.load_runs(str(tmp_path), data="rooms").data) == {"rooms"}
    assert set(bench.load_runs(tmp_path, method=["normal", "uw"]).method) == {"normal", "uw"}
    assert set(bench.load_curves(tmp_path, method="NORMAL").method) == {"normal"}


@pytest.mark.parametrize("load", parquet.TABLES.values())
def test_names_and_folders_without_runs_are_errors(
    load: Callable[..., pandas.DataFrame], records: list[Record], tmp_path: Path
) -> None:
    with pytest.raises(RecordError, match="expected runs of the data set 'celeba', found none; known: digits, rooms"):
        load(tmp_path, data=["digits", "celeba"])
    with pytest.raises(RecordError, match="the method 'mgda', found none; known: EW, NORMAL, UW, ew, normal, uw"):
        load(tmp_path, method=["EW", "mgda"])
    with pytest.raises(RecordError, match="the method 'UW', found none"):
        load(tmp_path, data="rooms", method="UW")
    for folder in (tmp_path / "none", tmp_path / "digits" / "ew" / "seed-0"):
        with pytest.raises(RecordError, match="expected a folder with runs, found none"):
            load(folder)


def test_exported_runs_are_named_as_in_lists(
    records: list[Record], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is the extra parquet")
    export = ["export", "--results", str(tmp_path), "--parquet", str(tmp_path / "out")]
    for names in (["--method", "nope"], ["--data", "nope"], ["--data", "rooms", "--method", "uw"]):
        assert runs.main([*export, *names]) == 2
        error = capsys.readouterr().err
        assert error.startswith("Unknown ") and error.count("\n") == 1 and not (tmp_path / "out").exists()
    assert runs.main([*export, "--data", "Digits", "--method", "NORMAL", "Ew"]) == 0
    frame = pandas.read_parquet(tmp_path / "out" / "runs.parquet")
    assert set(frame.data) == {"digits"} and set(frame.method) == {"ew", "normal"}
    assert runs.main(["export", "--results", str(tmp_path / "no"), "--parquet", str(tmp_path / "empty")]) == 2
    assert "expected a folder with runs" in capsys.readouterr().err and not (tmp_path / "empty").exists()


def test_curves_and_positions_are_those_of_the_files(records: list[Record], tmp_path: Path) -> None:
    curves = bench.load_curves(tmp_path)
    for record in records:
        own = curves[(curves.data == record.data) & (curves.variant == record.variant) & (curves.seed == record.seed)]
        written = pandas.read_csv(run_folder(tmp_path, record.data, record.variant, record.seed) / CURVE)
        pandas.testing.assert_frame_equal(own[written.columns].reset_index(drop=True), written, check_dtype=False)
    assert curves[curves.data == "rooms"]["train/plain"].isna().all()
    positions = bench.load_positions(tmp_path)
    assert tuple(positions.columns) == POSITION_COLUMNS and set(positions.method) == {"normal"}
    written = pandas.read_csv(run_folder(tmp_path, "digits", "normal", 1) / POSITIONS)
    own = positions[positions.seed == 1].pivot(index="step", columns="task", values="position")
    np.testing.assert_array_equal(own[written.columns[1:]].to_numpy(), written.to_numpy()[:, 1:])


def test_items_are_those_of_the_files(tmp_path: Path) -> None:
    record = make_record()
    folder = run_folder(tmp_path, "digits", "ew", 0)
    outcomes = {task.key: np.arange(10) < 9 for task in record.tasks}
    digest = write_items(folder, outcomes, {task.key: ["accuracy"] for task in record.tasks})
    write_record(folder, record.model_copy(update={"items": digest}))
    frame = bench.load_items(tmp_path)
    assert tuple(frame.columns) == ITEM_COLUMNS and len(frame) == 40
    assert frame[frame.task == "plain"].value.tolist() == [1.0] * 9 + [0.0]


def test_files_that_cannot_be_read_are_named_and_left_out(records: list[Record], tmp_path: Path) -> None:
    folders = [run_folder(tmp_path, "digits", "ew", seed) for seed in (0, 1)]
    (folders[0] / CURVE).write_text("epoch,step\n1,2,3\n")
    (folders[1] / RECORD).write_text("{")
    with pytest.warns(LeftOut) as caught:
        frame = bench.load_curves(tmp_path)
    assert {str(folders[0] / CURVE), str(folders[1] / RECORD)} == {
        str(one.message).removeprefix("left out: ").partition(": ")[0] for one in caught
    }
    assert "ew" not in set(frame[frame.data == "digits"].variant) and "normal" in set(frame.variant)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (folders[1] / RECORD).unlink()
        bench.load_runs(tmp_path)


def test_names_of_folders_are_escaped_in_warnings(tmp_path: Path) -> None:
    folder = tmp_path / "digits" / "e\x1b[31mw" / "seed-0"
    folder.mkdir(parents=True)
    (folder / RECORD).write_text("{")
    with pytest.warns(LeftOut) as caught:
        bench.load_runs(tmp_path)
    assert "e[U+001B][31mw/seed-0" in str(caught[0].message) and "\x1b" not in str(caught[0].message)


def test_a_column_of_text_in_one_curve_spoils_no_other(records: list[Record], tmp_path: Path) -> None:
    folder = run_folder(tmp_path, "digits", "ew", 0)
    lines = (folder / CURVE).read_text().splitlines()
    (folder / CURVE).write_text("\n".join([lines[0], lines[1].rsplit(",", 1)[0] + ",=cmd()", *lines[2:]]))
    with pytest.warns(LeftOut, match="expected numbers in column 'score'"):
        frame = bench.load_curves(tmp_path, data="digits")
    assert set(zip(frame.variant, frame.seed, strict=True)) == {("ew", 1), ("normal", 0), ("normal", 1), ("uw", 0)}
    assert pandas.api.types.is_numeric_dtype(frame.score)


def test_no_torch_is_imported(tmp_path: Path) -> None:
    write_runs(tmp_path, [make_record(method="NORMAL")])
    program = (
        "import sys, bench; assert 'pandas' not in sys.modules; "
        f"[load({str(tmp_path)!r}) for load in (bench.load_runs, bench.load_curves, bench.load_positions, "
        "bench.load_items)]; print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"torch", "methods", "datasets"} & set(done.stdout.split()) and "pandas" in done.stdout.split()


def test_the_example_of_the_docs(records: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "frames.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- test -->\n```python\n(.*?)```", page, flags=re.DOTALL)
    assert found is not None
    monkeypatch.setattr("bench.records.frames.ROOT", tmp_path)
    (tmp_path / "results").mkdir()
    (tmp_path / "digits").rename(tmp_path / "results" / "digits")
    names: dict[str, pandas.DataFrame] = {}
    exec(found[1], names)
    expected = [np.mean([one.test[task.key]["accuracy"] for task in one.tasks]) for one in records[:2]]
    assert names["means"].loc["EW"].tolist() == pytest.approx(expected)
    assert len(names["best"]) == 5
    for name in (*RUNS, "load_runs", "load_curves", "load_positions", "load_items"):
        assert name in page, name


def test_parquet_has_the_same_tables(records: list[Record], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is the extra parquet")
    out = tmp_path / "out"
    assert runs.main(["export", "--parquet", str(out), "--results", str(tmp_path)]) == 0
    assert {path.name for path in out.iterdir()} == {f"{name}.parquet" for name in parquet.TABLES}
    back, frame = pandas.read_parquet(out / "runs.parquet"), bench.load_runs(tmp_path)
    assert list(back.columns) == list(frame.columns) and back.value.equals(frame.value)
    assert f"runs.parquet: {len(frame)} rows" in capsys.readouterr().out
    run_folder(tmp_path, "digits", "ew", 0).joinpath(RECORD).write_text("{")
    assert runs.main(["export", "--parquet", str(out), "--results", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert (
        error.count("\n") == 1 and "left out:" in error and len(pandas.read_parquet(out / "runs.parquet")) < len(frame)
    )


def test_without_pyarrow_the_message_says_how_to_get_it(
    records: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(parquet, "find_spec", lambda name: None)
    assert runs.main(["export", "--parquet", str(tmp_path / "out"), "--results", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        "--parquet: expected the package pyarrow, found none; install it: pip install '.[parquet]'\n"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_ten_thousand_runs_load_in_seconds(tmp_path: Path) -> None:
    record = make_record()
    for variant in range(100):
        for seed in range(100):
            folder = run_folder(tmp_path, "digits", f"ew@{variant:08x}", seed)
            folder.mkdir(parents=True)
            changed = record.model_copy(update={"variant": f"ew@{variant:08x}", "seed": seed})
            (folder / RECORD).write_text(changed.model_dump_json(indent=1))
            (folder / CURVE).write_text("epoch,step,seconds,score\n1,2,3,0.5\n")
    for load, rows in ((bench.load_runs, 120_000), (bench.load_curves, 10_000)):
        start = time.process_time()
        assert len(load(tmp_path)) == rows
        print(load.__name__, time.process_time() - start, "s of a core")
        assert time.process_time() - start < 60
