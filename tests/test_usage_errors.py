"""Errors in options: one line that says which option, what was expected and what was found; exit code 2."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
from cases import for_every

from bench import data, plan, report, run, speed, toy
from bench.__main__ import COMMANDS
from bench.__main__ import main as start
from bench.cli.options import assignment, folder, image_size, lookup_name, positive, random_seed
from bench.cli.parser import CommandParser

BOMB = "[" + ",".join(["&a [1]", *["*a"] * 50]) + "]"


def error_of(command: object, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a command prints on stderr before it ends with 2."""
    try:
        code = command.main(arguments)  # type: ignore[attr-defined]
    except SystemExit as ended:
        code = ended.code
    assert code == 2, arguments
    return capsys.readouterr().err


@for_every(
    "command, arguments, message",
    [
        (run, ["--epochs", "-3"], "--epochs: expected a whole number ≥ 1, found '-3'"),
        (run, ["--epochs", "99999999"], "--epochs: expected a whole number ≤ 1,000,000, found '99999999'"),
        (run, ["--epochs", "\u0663"], "--epochs: expected a whole number ≥ 1, found '\u0663'"),
        (run, ["--epochs", "\u00b2"], "--epochs: expected a whole number ≥ 1, found '\u00b2'"),
        (run, ["--epochs", "9" * 5000], "--epochs: expected a whole number ≤ 1,000,000, found '999"),
        (run, ["--seeds", "-1"], "--seeds: expected a whole number ≥ 0, found '-1'"),
        (run, ["--seeds", "9" * 20], "--seeds: expected a whole number ≤ 4,294,967,295"),
        (run, ["--seeds"], "--seeds: expected at least one argument"),
        (run, ["--jobs", "100000"], "--jobs: expected a whole number ≤ 1,024"),
        (run, ["--threads", "100000"], "--threads: expected a whole number ≤ 1,024"),
        (plan, ["--budget", "1e9"], "--budget: expected a whole number ≥ 1"),
        (run, ["--results", ""], "--results: expected a path of printable characters, found ''"),
        (run, ["--data-root", "a\x00b"], r"--data-root: expected a path of printable characters, found 'a\x00b'"),
        (run, ["--cache-dir", "a/" + "b" * 256], "--cache-dir: expected a path"),
        (run, ["--method", ""], "--method: expected a name, found ''"),
        (run, ["--method", "a\x1b[31m"], r"--method: expected a name, found 'a\x1b[31m'"),
        (run, ["--data", "a\nb"], r"--data: expected a name, found 'a\nb'"),
        (run, ["--data", "\udcff"], r"--data: expected a name, found '\udcff'"),
        (run, ["--set", f"weighting.weights={BOMB}"], "--set: expected a value after 'weighting.weights'="),
        (run, ["--set", f"train.lr={'[' * 3000}"], "--set: expected a value after 'train.lr'="),
        (run, ["--set", f"train.lr={'1' * 5000}"], "--set: expected at most 4,096 characters after 'train.lr'="),
        (run, ["--set", "train.lr"], "--set: expected section.key=value, found 'train.lr'"),
        (run, ["--epohcs", "3"], "unknown option '--epohcs'; did you mean '--epochs'? --help lists all options."),
        (run, ["--epoch=3"], "unknown option '--epoch'; did you mean '--epochs'?"),  # no abbreviations
        (run, ["ew"], "expected an option, found 'ew'"),
        (run, ["--device=--"], "expected a value after '--device', found '--'"),
        (run, ["--method", "\u202eew"], r"--method: expected a name, found '\u202eew'"),
        (run, ["--set", "train.lr=!!int ''"], "--set: expected a value after 'train.lr'="),
        (run, ["--dry-run=3"], "--dry-run: ignored explicit argument '3'"),
        (
            data,
            ["chek"],
            "command: expected one of list, how, check, prepare, show, found 'chek'; did you mean 'check'?",
        ),
        (data, ["how"], "the following arguments are required: NAME"),
        (data, ["show", "digits", "--sede", "1"], "python -m bench.data show: unknown option '--sede'; did you mean"),
        (data, ["show", "digits", "--part", "tran"], "found 'tran'; did you mean 'train'?"),
        (speed, ["--size", "big"], "--size: expected one of cpu, paper, found 'big'"),
        (speed, ["--machine", "../x"], "--machine: expected at most 80 letters"),
        (toy, ["--lr", "nan"], "--lr: expected a number > 0, found 'nan'"),
        (toy, ["--momentum", "1"], "--momentum: expected a number ≥ 0 and < 1, found '1'"),
        (report, ["--out", ""], "--out: expected a path"),
        (report, ["--paper", "--data", "digits"], "--data: expected no data sets beside --paper"),
    ],
)
def test_a_wrong_option_is_one_line(
    command: object, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    error = error_of(command, arguments, capsys)
    assert message in error and error.count("\n") == 1 and len(error) < 700, error
    assert error.startswith("python -m bench.") and error.endswith("--help lists all options.\n"), error


def test_every_command_refuses_unknown_options_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for name in COMMANDS:
        error = error_of(import_module(name), ["--no-such-option"], capsys)
        assert (error.count("\n") == 1 and "--no-such-option" in error) or name in ("bench.data", "bench.runs"), error
    assert start(["reprot\n"]) == 2
    assert capsys.readouterr().err.startswith(r"Unknown command 'reprot\n'. Did you mean 'report'?")


def test_names_that_are_not_known_are_escaped_and_shortened(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    places = ["--results", str(tmp_path), "--data-root", str(tmp_path), "--dry-run"]
    assert run.main(["--method", "x" * 3000, "--data", "digits", "officehom", *places]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 2 and "'" + "x" * 70 in error and "x" * 90 not in error


def test_a_file_in_the_place_of_the_results_is_named_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for command, results in ((run, "file"), (plan, "file/below")):
        places = ["--results", str(tmp_path / results), "--data-root", str(tmp_path)]
        assert command.main(["--method", "all", "--data", "digits", "rooms", *places]) == 2
        error = capsys.readouterr().err
        assert error == f"--results: expected a folder, found a file at {tmp_path / 'file'}; name another folder.\n"


def test_options_take_what_they_should() -> None:
    assert folder("a b/ü") == Path("a b/ü") and lookup_name("Nash-MTL") == "Nash-MTL"
    assert positive("007") == 7 and random_seed("0") == 0 and image_size("none") is None and image_size("64") == 64
    assert assignment(" train.lr = 1e-3") == ("train.lr", "1e-3") and assignment("a.b=") == ("a.b", None)
    assert assignment("a.b=[1, [2]]") == ("a.b", [1, [2]])


def test_the_default_of_the_environment_is_checked_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MTL_DATA", "a\nb")
    assert "--data-root: expected a path" in error_of(data, ["list"], capsys)
    monkeypatch.setenv("MTL_DATA", "~no such user/data")
    monkeypatch.setenv("MTL_CACHE", "")
    assert data.main(["how", "celeba"]) == 0


def test_abbreviations_are_off_in_subcommands_too(capsys: pytest.CaptureFixture[str]) -> None:
    parser = CommandParser(prog="x")
    parser.add_subparsers().add_parser("sub").add_argument("--long-option")
    with pytest.raises(SystemExit):
        parser.parse_args(["sub", "--long", "1"])
    assert (
        capsys.readouterr().err
        == "x sub: unknown option '--long'; did you mean '--long-option'? --help lists all options.\n"
    )
