"""Random command lines and studies: no traceback, no hang, exit codes 0 to 2, short messages, and no stray files."""

from __future__ import annotations

import contextlib
import io
import random
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from command_lines import COMMANDS, Choices, command_line, study
from record_factory import make_record, without_drawing

from bench import __main__ as listing
from bench.forecasting import forecast
from bench.forecasting.probe import StepCost
from bench.records.store import run_folder, write_record
from bench.spec import study as studies

SEED = 20
LONGEST = 10.0  # seconds of a command; a second on an idle machine
LINES_PER_ERROR = 4
MARKS = ("[", "{", ": ", "&a ", "*a", "!!x ", "\n", "\t", "\0", "")  # of YAML


def module_of(command: str) -> ModuleType:
    return listing if command == "bench" else import_module(f"bench.{command}")


def outcome(module: ModuleType, words: list[str]) -> tuple[int, str, float]:
    """The exit code, what is on stderr, and the seconds that it took."""
    out, error = (io.TextIOWrapper(io.BytesIO(), "utf-8", errors) for errors in ("strict", "backslashreplace"))
    start = time.monotonic()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            code = module.main(words)
        except SystemExit as ended:
            code = ended.code
        out.flush()
    seconds = time.monotonic() - start
    error.seek(0)
    return code, error.read(), seconds


def check(command: str, words: list[str], n_inputs: int = 0) -> None:
    """n_inputs: of a study. Each, and each word, may be an error of its own."""
    code, error, seconds = outcome(module_of(command), words)
    lines = error.splitlines()
    assert code in (0, 1, 2), code
    assert seconds < LONGEST, f"{seconds:.1f} s"
    assert "Traceback" not in error
    if code == 2:
        assert lines and len(lines) <= LINES_PER_ERROR * max(1, len(words) + n_inputs), error
        assert all(line.isprintable() and len(line) < 2500 for line in lines), error


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with records, an empty folder, a file and a damaged record; nothing may appear outside of it."""
    inside = tmp_path / "inside"
    for name in ("empty", "data"):
        (inside / name).mkdir(parents=True)
    for method in ("EW", "NORMAL"):
        record = make_record(method=method)
        write_record(run_folder(inside / "records", record.data, record.variant, record.seed), record)
    damaged = run_folder(inside / "damaged", "digits", "ew", 0)
    damaged.mkdir(parents=True)
    (damaged / "record.json").write_text('{"schema_version": 1}')
    (inside / "file.txt").write_text("no folder")
    monkeypatch.chdir(inside)
    # A step takes seconds for some networks, and a study has many; tests/test_forecast.py times real ones.
    monkeypatch.setattr(forecast, "measure", lambda *arguments: StepCost(0.01, "made up", None))
    with without_drawing():
        yield inside
    assert [path.name for path in tmp_path.iterdir()] == ["inside"]


def paths(place: Path) -> list[str]:
    return [
        *(str(place / name) for name in ("records", "empty", "data", "damaged", "file.txt", "new")),
        "file.txt/below",
    ]


def fuzz(place: Path, count: int, seed: int) -> None:
    draw = random.Random(seed)
    for case in range(count):
        (command,) = draw.choices(list(COMMANDS), list(COMMANDS.values()))
        words = command_line(command, Choices(draw, paths(place)))
        try:
            check(command, words)
        except BaseException as error:
            raise AssertionError(f"case {case}, bench.{command} {words!r}: {type(error).__name__}: {error}") from error


def fuzz_studies(place: Path, monkeypatch: pytest.MonkeyPatch, count: int, seed: int) -> None:
    folder = place / "studies"
    folder.mkdir()
    monkeypatch.setattr(studies, "STUDIES", folder)
    draw = random.Random(seed)
    for case in range(count):
        text = yaml.safe_dump(study(draw), allow_unicode=True)
        if draw.random() < 0.2:  # no longer YAML, or another document
            start, put = (
                draw.randrange(len(text)),
                draw.choice(("[", "{", ": ", "&a ", "*a", "!!x ", "\n", "\t", "\0", "")),
            )
            text = text[:start] + put + text[start + 1 :]
        (folder / "made.yaml").write_text(text, encoding="utf-8")
        command = draw.choice(("run", "report"))
        where = ["--results", str(place / "records")]
        where += ["--out", str(place / "new")] if command == "report" else ["--data-root", str(place), "--dry-run"]
        try:
            check(command, ["--study", "made", *where], text.count("\n"))
        except BaseException as error:
            raise AssertionError(f"case {case}, bench.{command}, {text!r}: {type(error).__name__}: {error}") from error


def test_command_lines(place: Path) -> None:
    fuzz(place, 150, SEED)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_more_command_lines(place: Path, part: int) -> None:
    fuzz(place, 500, SEED + 1 + part)


def test_studies(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fuzz_studies(place, monkeypatch, 60, SEED)


@pytest.mark.slow
def test_more_studies(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fuzz_studies(place, monkeypatch, 1000, SEED + 1)
