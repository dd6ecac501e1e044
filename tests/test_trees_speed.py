"""The commands on trees of full size: names and counts are the real ones, and what is measured is what was done."""

from __future__ import annotations

import csv
import sys
from argparse import ArgumentParser
from pathlib import Path

import pytest

from bench import data, report, speed
from bench.cli.request import add_how, add_what, requested
from bench.profiling import commands
from bench.profiling.command_tables import commands_page, commands_table, runs_table
from bench.profiling.commands import Measured
from bench.profiling.processes import CommandFailed, Usage, run_measured
from bench.profiling.trees import TREES, Tree, write_tree
from bench.spec.planning import make_plan
from datasets import DATASETS
from datasets.contract import DataSettings

COMMANDS = ["check", "prepare", "plan", "run", "report"]
on_linux = pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").exists(), reason="/proc/PID/smaps_rollup, from which memory is read, is absent"
)

# Holds 150 MiB, and at the same time a process of multiprocessing holds 100 MiB.
HOLDING = """
import time
from multiprocessing import get_context

def hold():
    held = bytearray(b"x") * (100 << 20)
    time.sleep(1.5)

if __name__ == "__main__":
    held = bytearray(b"x") * (150 << 20)
    process = get_context("spawn").Process(target=hold)
    process.start()
    process.join()
    print("done")
"""


@pytest.mark.parametrize("name", TREES)
def test_trees_have_the_published_names_and_counts(name: str, tmp_path: Path) -> None:
    tree, info = TREES[name], DATASETS[name]
    images = [info.published[f"{task.key}: images"] for task in info.tasks]
    assert [(count,) for count in tree.domains.values()] == images and (tree.images,) == info.published["images"]
    assert len(set(tree.classes)) == info.tasks[0].outputs and list(tree.classes) == sorted(tree.classes)
    few = tree.few(128)
    write_tree(tmp_path, few)
    assert info.inventory is not None
    inventory = info.inventory(tmp_path, DataSettings(None))
    assert list(inventory.classes) == list(tree.classes) and not inventory.errors
    assert inventory.counts["images"] == (few.images,) and 5 * few.images < 2 * tree.images
    parts = [inventory.counts[f"{task.key}: train / validation / test"] for task in info.tasks]
    assert parts[0][1] >= 128 > parts[1][1] > 0


def test_a_tree_is_spread_over_its_classes_and_no_two_images_are_the_same(tmp_path: Path) -> None:
    write_tree(tmp_path, Tree({"a/images": 7, "b": 3}, ("x", "y"), "frame_{:04d}.jpg"))
    counts = {folder: len(list((tmp_path / folder).iterdir())) for folder in ("a/images/x", "a/images/y", "b/x", "b/y")}
    assert counts == {"a/images/x": 4, "a/images/y": 3, "b/x": 2, "b/y": 1}
    assert (tmp_path / "a/images/y/frame_0003.jpg").is_file()
    assert len({path.read_bytes() for path in tmp_path.rglob("*.jpg")}) == 10


@on_linux
def test_memory_is_that_of_a_command_and_of_what_it_starts(tmp_path: Path) -> None:
    (tmp_path / "holding.py").write_text(HOLDING, encoding="utf-8")
    usage = run_measured([sys.executable, str(tmp_path / "holding.py")])
    assert usage.output == "done\n" and usage.seconds > 1.5
    assert usage.peak_mib is not None and 250 < usage.peak_mib < 350
    (worker,) = usage.anonymous.values()  # neither the command itself nor what multiprocessing starts to watch it
    assert 100 < worker < 140


def test_a_command_that_fails_is_named_with_what_it_printed() -> None:
    with pytest.raises(CommandFailed, match=r"(?s)expected exit code 0, found 3; it printed\nno data"):
        run_measured([sys.executable, "-c", "import sys; print('no data', file=sys.stderr); sys.exit(3)"])


def test_the_commands_are_those_of_a_user(tmp_path: Path) -> None:
    words = commands._commands("office31", tmp_path)
    assert list(words) == COMMANDS
    for command, parse in {"check": data._parser, "prepare": data._parser, "report": report._parser}.items():
        parse().parse_args(words[command][1:])
    parser = ArgumentParser()
    add_what(parser)
    add_how(parser)
    write_tree(
        tmp_path / "office31", Tree(dict.fromkeys(TREES["office31"].domains, 155), TREES["office31"].classes, "{}.png")
    )
    arguments = parser.parse_args(words["run"][1:])
    request, results = requested(arguments)
    specs = make_plan(request, arguments.data_root, results, make_data=False).pending
    assert [spec.seed for spec in specs] == [0, 1] and specs[0].settings.train.epochs == 1
    assert specs[0].settings.data.image_size == commands.SIZE and specs[0].settings.backbone.name == commands.BACKBONE


def test_the_start_of_a_run_ends_before_its_first_step(
    data_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [
        "--method",
        "ew",
        "--data",
        "digits",
        "--seeds",
        "0",
        "1",
        "--device",
        "cpu",
        "--data-root",
        str(data_root),
    ]
    monkeypatch.setattr(sys, "argv", ["start", *words, "--results", str(tmp_path)])
    commands.print_start_up()
    assert 0 < float(capsys.readouterr().out) < 120
    assert not list(tmp_path.rglob("*.json"))


def measured(anonymous: float | None) -> Measured:
    usages = {name: Usage(index + 0.25, 1000.0 * index, {}, "") for index, name in enumerate(COMMANDS)}
    return Measured("officehome", 15_588, 3.0, usages, 4.26, anonymous, 412.0)


def test_tables_show_what_the_data_costs(tmp_path: Path) -> None:
    assert [[cell.text for cell in row.cells] for row in commands_table([measured(500.0)]).rows][:2] == [
        ["check", "0.2", "0"],
        ["prepare", "1.2", "1,000"],
    ]
    (row,) = runs_table([measured(500.4)]).rows
    assert row.head.text == "Office-Home, 15,588 images"
    assert [cell.text for cell in row.cells] == ["4.3", "500", "412", "88"]
    (row,) = runs_table([measured(None)]).rows
    assert [cell.text for cell in row.cells] == ["4.3", "--", "412", "--"]
    commands_page([measured(500.0)], "Here.").write(tmp_path, "trees")
    with (tmp_path / "trees.csv").open(encoding="utf-8") as file:
        rows = {row["measured"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["writing", *COMMANDS, "training process"]
    assert rows["training process"]["anonymous_mib"] == "500.0" and rows["run"]["peak_mib"] == "3000.0"
    assert (tmp_path / "trees.md").read_text(encoding="utf-8").endswith("Here.\n")


@pytest.mark.slow
def test_the_command_measures_and_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(TREES, "office31", TREES["office31"].few(1))  # type: ignore[index]
    monkeypatch.setattr(commands, "SIZE", (16, 16))
    monkeypatch.setattr(commands, "PLAN_SECONDS", 1)
    assert speed.main(["data", "--trees", "Office31", "--out", str(tmp_path)]) == 0
    printed, written = capsys.readouterr().out, (tmp_path / "trees.md").read_text(encoding="utf-8")
    for command in COMMANDS:
        assert f"office31: {command}\n" in printed and f" {command} |" in written
    with (tmp_path / "trees.csv").open(encoding="utf-8") as file:
        assert all(float(row["seconds"]) > 0 for row in csv.DictReader(file))


def test_an_unknown_tree_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert speed.main(["data", "--trees", "ofice31"]) == 2
    assert "Did you mean 'office31'?" in capsys.readouterr().err
