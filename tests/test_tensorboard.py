"""bench.run --logger tensorboard: the numbers of each epoch once, and nothing of the run changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas
import pytest
from data_trees import write_digits

from bench import run
from bench.launch import tensorboard
from bench.launch.config import LaunchConfig
from bench.launch.local import run_locally
from bench.launch.messages import Event
from bench.records.store import CURVE, POSITIONS, RECORD, TENSORBOARD
from bench.spec.resolve import RunSpec, resolve

accumulator = pytest.importorskip(
    "tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is the extra tensorboard"
)
TIMES = ("seconds", "step_seconds", "peak_memory_mib", "idle_memory_mib", "resumed")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("data"))


def spec() -> RunSpec:
    return resolve("digits", "normal", assignments={"train.epochs": 3, "train.batch_size": 8})


def trained(data: Path, results: Path, logger: str = "", stop_after: int = 0) -> Path:
    """The folder of the run; it is interrupted after an epoch if that is given."""
    config = LaunchConfig({"digits": data}, results, "cpu", 1, logger=logger)

    def act(event: Event) -> None:
        if stop_after and event.kind == "epoch" and event.epochs == stop_after:
            raise KeyboardInterrupt

    try:
        run_locally([spec()], config, 1, act)
    except KeyboardInterrupt:
        assert stop_after
    return config.folder(spec())


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """All points by name, from all files of the folder."""
    events = accumulator.EventAccumulator(str(folder / TENSORBOARD), size_guidance={"scalars": 0})
    events.Reload()
    return {name: [(one.step, one.value) for one in events.Scalars(name)] for name in events.Tags()["scalars"]}


def without_times(folder: Path) -> dict[str, Any]:
    record = json.loads((folder / RECORD).read_text())
    return {key: value for key, value in record.items() if key not in TIMES}


@pytest.mark.slow
def test_every_number_of_the_curve_is_there_once_and_nothing_else_changes(data: Path, tmp_path: Path) -> None:
    plain = trained(data, tmp_path / "plain")
    trained(data, tmp_path / "logged", "tensorboard", stop_after=2)
    logged = trained(data, tmp_path / "logged", "tensorboard")  # goes on
    assert without_times(logged) == without_times(plain) and not (plain / TENSORBOARD).exists()
    assert (logged / POSITIONS).read_bytes() == (plain / POSITIONS).read_bytes()
    curve = pandas.read_csv(logged / CURVE)
    pandas.testing.assert_frame_equal(
        curve.drop(columns="seconds"), pandas.read_csv(plain / CURVE).drop(columns="seconds")
    )
    found = scalars(logged)
    expected = {name for name in curve.columns if name not in ("epoch", "step", "seconds")}
    assert set(found) == expected | {f"position/{task}" for task in spec().tasks}
    for name in expected:
        assert [step for step, _ in found[name]] == [1, 2, 3], name
        assert [value for _, value in found[name]] == pytest.approx(curve[name].tolist(), rel=1e-6), name
    positions = pandas.read_csv(logged / POSITIONS).set_index("step")
    for task in spec().tasks:
        at_ends = positions.loc[curve.step, task].tolist()
        assert [value for _, value in found[f"position/{task}"]] == pytest.approx(at_ends, rel=1e-6)


def test_without_the_package_the_message_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tensorboard, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as ended:
        run.main(["--method", "ew", "--data", "digits", "--logger", "tensorboard"])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert "expected the package tensorboard, found none; install it: pip install '.[tensorboard]'" in error
    assert error.count("\n") == 1


def test_another_logger_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run.main(["--method", "ew", "--data", "digits", "--logger", "wandb"])
    assert "--logger: expected tensorboard, found 'wandb'" in capsys.readouterr().err
