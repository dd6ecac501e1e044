"""The README and the docs do what they say."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import quoted
from PIL import Image
from record_factory import without_drawing

import methods
from bench import ROOT, report, run
from bench.records.all_records import read_records
from bench.records.record import Record
from bench.spec.resolve import resolve
from bench.spec.study import load_study

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(place: str) -> str:
    found = re.search(rf"<!-- test: {re.escape(place)} -->\n```python\n(.*?)```", README, flags=re.DOTALL)
    assert found is not None, place
    return found.group(1)


@pytest.fixture(scope="module")
def extended_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the suite with the README's method and data set, added as a reader would."""
    copy = tmp_path_factory.mktemp("copy")
    for name in ("bench", "methods", "datasets"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "setup.cfg", copy)
    for place in re.findall(r"<!-- test: (\S+) -->", README):
        with (copy / place).open("a", encoding="utf-8") as file:
            file.write("\n" + block(place))
    return copy


def in_copy(copy: Path, command: str) -> None:
    """Runs a command in the copy, without any path of this checkout."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-m", *command.split()], cwd=copy, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_adding_a_method_and_a_data_set_as_printed(extended_copy: Path, data_root: Path, tmp_path: Path) -> None:
    command = re.search(r"`python -m (bench\.run --method inverse_loss [^`]*)`", README)
    assert command is not None
    for domain in ("photo", "art_painting", "cartoon", "sketch"):
        for label in range(7):
            folder = tmp_path / "pacs" / domain / f"class {label}"
            folder.mkdir(parents=True)
            for number in range(5):
                Image.new("RGB", (8, 8), (30 * label, 10 * number, 0)).save(folder / f"{number}.png")
    (tmp_path / "digits").symlink_to(data_root / "digits")
    # Both in one process, to save the time of another: what is added to methods and to datasets shares nothing.
    line = command[1].replace("--data digits", "--data digits pacs")
    settings = "backbone.name=small backbone.weights=none data.image_size=[16,16]"
    options = f"--data-root {tmp_path} --results {tmp_path}/results --epochs 1 --seeds 0 --jobs 1 --device cpu"
    in_copy(extended_copy, f"{line} {settings} {options}")
    records = {record.data: record for record in read_records(tmp_path / "results")}
    assert {record.status for record in records.values()} == {"done"}
    assert records["digits"].labels.method == "Inverse loss"
    assert records["digits"].settings["weighting"]["power"] == 0.5
    assert set(records["pacs"].test) == {"photo", "art_painting", "cartoon", "sketch"}


@pytest.mark.slow
def test_what_the_readme_adds_type_checks(extended_copy: Path) -> None:
    pytest.importorskip("mypy", reason="mypy is part of the extra dev")
    in_copy(extended_copy, "mypy methods datasets")


def test_every_command_line_of_the_readme_is_understood() -> None:
    lines = re.findall(r"^    python -m bench\.run (.*?)(?:  +#.*)?$", README, flags=re.MULTILINE)
    assert len(lines) >= 5
    for line in lines:
        arguments = run._parser().parse_args(line.split())
        if arguments.study is None:
            for name in arguments.data:
                for method in arguments.method or [None]:
                    if method != "all":
                        resolve(
                            name,
                            method,
                            architecture=arguments.arch,
                            weighting=arguments.weighting,
                            assignments=dict(arguments.assignments),
                        )


def test_the_table_of_methods_is_that_of_the_registry() -> None:
    for name, method in methods.METHODS.items():
        weighting = methods.WEIGHTINGS[method.weighting]
        rows = [line for line in README.splitlines() if line.startswith(f"| `{name}` |")]
        assert len(rows) == 1, name
        cells = [cell.strip() for cell in rows[0].strip("|").split("|")]
        assert cells[1] == method.label and cells[3] == weighting.factory().heads
        architecture = methods.ARCHITECTURES[method.architecture]
        deviations = weighting.deviations if method.architecture == "hps" else architecture.deviations
        assert cells[4] == deviations, name


def test_every_field_of_a_record_is_explained() -> None:
    text = (ROOT / "docs" / "records.md").read_text(encoding="utf-8")
    for name in Record.model_fields:
        assert f"`{name}`" in text, name


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


TRUST = ROOT / "results" / "reference" / "trust"
STUDIES = ("ablation", "shortcuts", "eta", "sizes", "fronts")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_tables_are_those_of_the_reference_reports(path: Path) -> None:
    page = path.read_text(encoding="utf-8")
    if os.environ.get("RENEW_DOCS"):
        path.write_text(quoted.renewed(page), encoding="utf-8")
        pytest.skip("the tables were copied from the reports")
    assert page == quoted.renewed(page), f"other tables than the reports have: run {quoted.RENEW}"


def test_the_readme_shows_the_reference_study() -> None:
    assert "<!-- table: reports/reference/trust/problems-tuned.md -->" in README


@pytest.mark.slow
@pytest.mark.parametrize("name", ["trust", *STUDIES])
def test_the_reference_reports_are_those_of_the_reference_records(name: str, tmp_path: Path) -> None:
    study = str(TRUST / "tuned.yaml") if name == "trust" else name
    with without_drawing():
        results = str(TRUST.parent / name)
        assert report.main(["--study", study, "--results", results, "--out", str(tmp_path)]) == 0
    for made in sorted(tmp_path.rglob("*.md")):
        kept = ROOT / "reports" / "reference" / name / made.relative_to(tmp_path)
        assert made.read_text(encoding="utf-8") == kept.read_text(encoding="utf-8"), kept


def test_the_error_rates_of_the_docs_are_those_of_the_reference_reports() -> None:
    text = (ROOT / "docs" / "statistics.md").read_text(encoding="utf-8")
    section = text[text.index("## How often verdicts are wrong") :]
    for place, name in ((1, "error-rates"), (2, "error-rates-without-luck")):
        path = ROOT / "reports" / "reference" / "trust" / name / "error_rates.md"
        found = re.findall(r"[\d.]+ \\?\[[\d.]+, [\d.]+\]", path.read_text(encoding="utf-8"))
        shown = [cells[place] for cells in map(cells_of, section.splitlines()) if len(cells) == 3 and "[" in cells[1]]
        assert len(shown) == 9 and set(shown) <= {one.replace("\\", "") for one in found}


def test_the_ablations_of_the_docs_are_those_of_the_reference_reports() -> None:
    text = (ROOT / "docs" / "normal.md").read_text(encoding="utf-8")
    folder = ROOT / "reports" / "reference" / "ablation" / "digits"
    rows = 0
    for table in load_study("ablation").tables:
        scores = (folder / table.name / "scores.md").read_text(encoding="utf-8")
        head, *found = [cells_of(line) for line in scores.splitlines() if line.startswith("| ")]
        for cells in [cells for cells in found if "±" in cells[1]]:
            label, average = cells[0], cells[head.index("Avg (%) ↑")]
            if "default" not in label:
                # NORMAL and EW stand in several tables there, and beside the published numbers here.
                assert f"| {label} | {average} |" in text, label
                rows += 1
    assert rows > 20


def test_what_shortcuts_cost_by_the_docs_is_what_the_reference_reports_say() -> None:
    """A row of the docs has a shortcut's mean over tasks, or Δ_b, on each data set, for MGDA and then for Nash-MTL."""
    lines = (ROOT / "docs" / "speed.md").read_text(encoding="utf-8").splitlines()
    rows = {row[0]: row[1:] for row in map(cells_of, lines) if row}
    study = load_study("shortcuts")
    places = [(table.name, data) for table in study.tables for data in study.data]
    for column, (name, data) in enumerate(places):
        scores = (ROOT / "reports" / "reference" / "shortcuts" / data / name / "scores.md").read_text(encoding="utf-8")
        head, *found = [cells_of(line) for line in scores.splitlines() if line.startswith("| ")]
        average = head.index({"digits": "Avg (%) ↑", "rooms": "Δ_b (%) ↑", "faces": "Accuracy Avg (%) ↑"}[data])
        for row in found[1:]:
            if row[0] in rows and row[0] != "Dummy baseline":
                assert rows[row[0]][column] == row[average], (name, data, row[0])
    assert {row.label for row in study.rows} <= rows.keys()


def cells_of(line: str) -> list[str]:
    return (
        [re.sub(r"<sup>.*?</sup>", "", cell).strip(" *") for cell in line.strip("|").split("|")] if "|" in line else []
    )
