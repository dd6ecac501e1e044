"""The page of a report as a file: complete, harmless, the same for the same records, and it asks for nothing else."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from page_parts import Element, data_of, read_page
from record_factory import NASTY, example_records, make_record, make_study, make_unfinished, without_drawing, write_runs

from bench.records.files import StorageError
from bench.records.record import Labels, Record
from bench.records.store import CURVE, RecordError, run_folder
from bench.report import main
from bench.reporting.comparison import comparisons
from bench.reporting.figures.intervals import Span, spans_figure
from bench.reporting.figures.style import COLOURS, save
from bench.reporting.options import USUAL
from bench.reporting.page.colours import CONTRAST, DARK_PAPER, contrast, dark_rules, on_dark
from bench.reporting.page.drawing import drawing
from bench.reporting.page.render import PAGE
from bench.reporting.page.runs import ALL_POINTS, FEWEST_POINTS, MOST_POINTS, points_of
from bench.reporting.page.tables import sort_value, title_of
from bench.reporting.page.verdicts import TONES, headline_of, tone_of
from bench.reporting.reports import write_reports
from bench.reporting.spacing import evenly_spaced_places
from bench.reporting.tables.scores import score_tables
from bench.reporting.tables.table import Cell

HOSTILE = r"a_b & 100% {x} <script>alert(1)</script> </script> \input{x} ' "


@pytest.fixture(scope="module")
def page(example_reports: Path) -> Element:
    return read_page(example_reports / PAGE)


def unescaped(markdown: str) -> str:
    return re.sub(r"\\(.)", r"\1", markdown).replace("**", "").strip()


def rows_of_markdown(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| :--")]
    cells = [re.split(r"(?<!\\) \| ", re.sub(r"<sup>(.*?)</sup>", r"\1", line[2:-2])) for line in lines]
    return [[unescaped(cell).strip("*") for cell in line] for line in cells]


def test_every_row_and_note_of_the_tables_is_on_the_page(example_reports: Path, page: Element) -> None:
    tables = {table.attributes["id"]: table for table in page.all("table")}
    files = [*sorted(example_reports.rglob("*/*.md")), example_reports / "problems.md"]
    assert len(files) > 12
    for path in files:
        place = path.relative_to(example_reports).with_suffix("")
        table = tables[f"table/{place}" if path.parent == example_reports else f"on/{place}"]
        head, *rows = rows_of_markdown(path.read_text(encoding="utf-8"))
        shown = [[without_badge(cell) for cell in cells_of(row)] for row in table.all("tr")]
        assert len(head) == len(shown[-1])
        assert shown[-len(rows) :] == rows, path
        for note in re.findall(r"^<sup>\w+</sup> (.*?)\.?(?:  )?$", path.read_text(encoding="utf-8"), re.MULTILINE):
            assert unescaped(note) in page.text, note


def without_badge(cell: Element) -> str:
    """Its text as in the Markdown, which does not say in a row's head what runs are lost."""
    lost = [badge.text for badge in cell.all("span", class_="badge")]
    return cell.text.removesuffix(lost[0] if lost else "").strip()


def cells_of(row: Element) -> list[Element]:
    return [child for child in row.children if isinstance(child, Element)]


def test_what_ran_and_what_did_not_is_in_plain_sight(page: Element) -> None:
    (failures,) = page.all("section", id_="failures")
    assert NASTY in failures.text and "1 diverged" in failures.text
    assert "6 not run" in failures.text  # the seeds of MGDA
    (lead,) = page.all("p", class_="lead")
    assert lead.text.startswith("29 of 36 runs are done, 1 diverged or failed, 6 were not run")
    badges = {badge.text for badge in page.all("span", class_="badge")}
    assert {"7", "1 diverged, 6 not run"} <= badges
    assert "0123abc" in page.text  # the commit, where runs were trained


def test_tables_can_be_read_aloud_and_sorted(page: Element) -> None:
    tables = list(page.all("table"))
    assert len(tables) > 15
    for table in tables:
        assert len(list(table.all("caption"))) == 1
        for head in table.all("th"):
            assert head.attributes["scope"] in ("col", "row", "colgroup")
        (heads,) = table.all("tr", class_="heads")
        for head in cells_of(heads):
            assert head.attributes["aria-sort"] == "none" and len(list(head.all("button"))) == 1
        for row in table.all("tbody"):
            assert all(cells_of(line)[0].attributes["scope"] == "row" for line in cells_of(row))
    ids = [one.attributes["id"] for one in page.everything() if "id" in one.attributes]
    assert len(ids) == len(set(ids))
    for link in page.all("a"):
        target = link.attributes["href"]
        assert target == "README.md" or target.removeprefix("#") in ids
    for one in page.everything():
        for name in ("aria-labelledby", "for"):
            assert one.attributes.get(name, ids[0]) in (*ids, "runs-title")


def test_cells_lead_to_their_runs(page: Element) -> None:
    data = data_of(page)
    assert len(data["runs"]) == 30 and len(data["rows"]) == 8
    (table,) = page.all("table", id_="on/digits/verdicts")
    for line in table.all("tr"):
        if "data-rows" in line.attributes:
            row = data["rows"][int(line.attributes["data-rows"])]
            assert cells_of(line)[0].text.startswith(row["label"])
            assert data["problems"][row["problem"]]["label"] == "Digits"
    (transposed,) = page.all("table", id_="on/faces/tasks-accuracy")
    (heads,) = transposed.all("tr", class_="heads")
    rows = [head.attributes["data-rows"] for head in cells_of(heads) if "data-rows" in head.attributes]
    assert [data["rows"][int(row)]["label"] for row in rows] == ["EW", "NORMAL"]  # not the dummy baseline
    (over,) = page.all("table", id_="table/problems")
    numbers = [line.attributes["data-rows"] for line in over.all("tr") if "data-rows" in line.attributes]
    assert numbers == ["0 4 6", "1", "2", "3 5 7"]


def test_runs_have_settings_scores_status_and_curves(page: Element) -> None:
    data = data_of(page)
    records = {(run.data, run.variant, run.seed): run for run in example_records()}
    done = next(run for run in data["runs"] if run["status"] == "done")
    record = records["digits", "ew", 0]
    shown = [f"{100 * record.test[task.key]['accuracy']:.2f}" for task in record.tasks]
    assert done["scores"].split() == shown
    assert done["overall"] == f"{100 * np.mean([record.test[t.key]['accuracy'] for t in record.tasks]):.2f}"
    assert len(done["curve"]) == record.epochs and "at" not in done
    assert data["problems"][0]["settings"]["train.lr"] == "0.003"
    assert data["machines"][done["machine"]]["Commit"] == "0123abc"
    (lost,) = (run for run in data["runs"] if run["status"] == "diverged")
    assert lost["reason"] == NASTY and "scores" not in lost and lost["overall"] == "--"


def test_what_is_said_first(page: Element) -> None:
    cards = list(page.all("article"))
    titles = [next(card.all("h2")).text for card in cards]
    assert titles == ["Digits", "Rooms", "Faces"]
    assert "Too few seeds to tell" in cards[1].text
    assert "Runs lost" in cards[0].text or "Better than EW" in cards[0].text or "Not separable" in cards[0].text
    chips = [chip.text for card in cards for chip in card.all("button", class_="chip")]
    assert len(chips) == 5 and not any(chip == "EW" for chip in chips)


def test_headlines() -> None:
    assert headline_of({"better than tuned EW": 2, "better than EW": 1, "worse": 3}) == (
        "2 better than tuned EW, 1 better than EW, 3 worse",
        "best",
    )
    assert headline_of({"better than EW": 1}) == ("1 better than EW", "better")
    assert headline_of({"not separable": 4}) == ("None better than EW", "same")
    assert headline_of({"worse": 1, "not separable": 4}) == ("None better than EW, 1 worse", "worse")
    assert headline_of({"runs lost": 1})[1] == "lost"
    assert headline_of({"too few seeds": 1, "reference": 1}) == ("Too few seeds to tell", "few")
    assert headline_of({"no reference": 1}) == ("No EW to compare with", "few")
    assert [tone_of(word) for word in TONES] == [tone for tone, _ in TONES.values()]
    assert tone_of("runs lost (2)") == "lost" and tone_of("too few seeds (3)") == "few" and tone_of("--") == ""


def test_sorting_has_a_number_where_the_text_has_none() -> None:
    assert sort_value(Cell("85.73 [85.36, 86.10]", 0.8573), False) == ""
    assert sort_value(Cell("never", math.inf), False) == "Infinity"
    assert sort_value(Cell("< 0.001", 2e-4), False) == "0.0002"
    assert sort_value(Cell(), False) == sort_value(Cell("--", math.nan), True) == ""
    assert int(sort_value(Cell("worse"), True)) > int(sort_value(Cell("better than EW"), True))
    assert title_of("tasks-accuracy") == "Tasks: accuracy" and title_of("problems") == "Over all problems"


def hostile_records() -> list[Record]:
    tasks = [task.model_copy(update={"label": HOSTILE + task.key}) for task in make_record().tasks]
    labels = Labels(data=HOSTILE, method=HOSTILE)
    settings = {"train": {"epochs": 10, "lr": HOSTILE}, "weighting": {HOSTILE: [HOSTILE]}}
    given = {"tasks": tasks, "labels": labels, "settings": settings, "environment": {"commit": HOSTILE, "cpu": "\x1b"}}
    lost = make_unfinished("failed", HOSTILE, seed=1, **given)
    return [
        make_record(overrides={HOSTILE: HOSTILE}, **given),
        lost.model_copy(update={"overrides": {HOSTILE: HOSTILE}}),
    ]


def test_text_of_records_stays_text(tmp_path: Path) -> None:
    write_runs(tmp_path, hostile_records())
    with without_drawing():
        write_reports(tmp_path, hostile_records(), tmp_path / "out")
    source = (tmp_path / "out" / PAGE).read_text(encoding="utf-8")
    page = read_page(tmp_path / "out" / PAGE)
    assert [("id" in script.attributes) for script in page.all("script")] == [True, False]
    assert source.count("<script") == source.count("</script") == 2 and "\x1b" not in source
    assert HOSTILE.strip() in page.text and "[U+001B]" in str(data_of(page)["machines"])
    data = data_of(page)
    assert HOSTILE.strip() in data["rows"][0]["label"]
    assert any(run.get("reason") == HOSTILE.strip() for run in data["runs"])
    allowed = re.compile(r"(?!on)[a-zA-Z0-9-]+")  # no attribute that runs a script
    assert all(allowed.fullmatch(name) for one in page.everything() for name in one.attributes)


def test_hostile_labels_are_text_in_drawings() -> None:
    figure = spans_figure([Span(HOSTILE, 0, 1.0, 0.5, 1.5)], HOSTILE)
    assert figure is not None
    svg = drawing(figure, "", "f-").svg
    assert "<script" not in svg and "&lt;script&gt;" in svg


def test_the_page_asks_for_nothing(page: Element) -> None:
    for one in page.everything():
        assert one.tag not in ("img", "iframe", "object", "embed", "base", "audio", "video", "image")
        assert not {"src", "srcset", "style", "action", "xlink:href"} & one.attributes.keys(), one
        href = one.attributes.get("href", "#")
        assert href.startswith("#") or href == "README.md" or (one.tag == "link" and href == "data:,")
    (style,), scripts = page.all("style"), list(page.all("script"))
    assert "url(" not in text_of(style) and "@import" not in text_of(style)
    (meta,) = page.all("meta", http_equiv="Content-Security-Policy")
    policy = meta.attributes["content"]
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy and "http" not in policy
    for element in (style, scripts[1]):
        digest = base64.b64encode(hashlib.sha256(text_of(element).encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy


def text_of(element: Element) -> str:
    (text,) = element.children
    assert isinstance(text, str)
    return text


def test_the_script_writes_text_only(page: Element) -> None:
    script = text_of(list(page.all("script"))[1])
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "fetch("):
        assert way not in script


def test_the_same_records_give_the_same_page(example_results: Path, example_reports: Path, tmp_path: Path) -> None:
    """Also if only some tables are written again: the page is always about all records."""
    with without_drawing():
        assert main(["--results", str(example_results), "--out", str(tmp_path), "--data", "rooms"]) == 0
    assert (tmp_path / PAGE).read_bytes() == (example_reports / PAGE).read_bytes()


def one_figure() -> Figure:
    figure = spans_figure([Span("EW", 0, 1.0, 0.5, 1.5), Span("a long name (lr=0.1, c=0.4)", 1, 0.0, -0.5, 0.4)], "x")
    assert figure is not None
    return figure


def test_drawings_are_small_and_leave_the_figure_as_it_is(tmp_path: Path) -> None:
    files = save(one_figure(), tmp_path / "before")
    figure = one_figure()
    first, again = drawing(figure, "title", "f1-"), drawing(figure, "title", "f1-")
    assert first == again == drawing(one_figure(), "title", "f1-")
    for before, after in zip(files, save(figure, tmp_path / "after"), strict=True):
        assert before.read_bytes() == after.read_bytes()
    ids = set(re.findall(r'id="([^"]+)"', first.svg))
    assert ids and all(one.startswith("f1-") for one in ids)
    assert set(re.findall(r"#([\w-]+)", re.sub(r'"#[0-9a-f]{6}"', "", first.svg))) == ids
    assert not ids & set(re.findall(r'id="([^"]+)"', drawing(figure, "title", "f2-").svg))
    markers = re.findall(r'<path id="[^"]+" d="([^"]+)"', first.svg)
    assert len(markers) == len(set(markers)) and "<defs/>" not in first.svg
    assert "style=" not in first.svg and "a long name" in first.svg and len(first.svg) < 8_000


def test_colours_are_legible_on_a_dark_page() -> None:
    for colour in COLOURS:
        assert contrast(on_dark(colour), DARK_PAPER) >= CONTRAST
    assert on_dark("#ffffff") == DARK_PAPER.lower() or contrast(on_dark("#ffffff"), DARK_PAPER) < 1.1
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    rules = dark_rules(['<path stroke="#332288" fill="none"/>'])
    assert 'svg [stroke="#332288"] { stroke: light-dark(#332288, ' in rules and len(rules.splitlines()) == 2


def texts_of_style(name: str) -> dict[str, tuple[str, str]]:
    found = re.findall(rf"--({name}): light-dark\((#\w+), (#\w+)\)", STYLE)
    return {key: (light, dark) for key, light, dark in found}


STYLE = (Path(__file__).resolve().parent.parent / "bench/reporting/templates/page.css").read_text(encoding="utf-8")


@pytest.mark.parametrize("side", [0, 1], ids=["light", "dark"])
def test_text_has_contrast(side: int) -> None:
    colours = texts_of_style(r"[\w-]+")
    papers = [colours[name][side] for name in ("paper", "raised")]
    for name in ("ink", "soft", "link", "best", "better", "worse", "lost", "same"):
        own = [colours[f"{name}-paper"][side]] if f"{name}-paper" in colours else []
        assert min(contrast(colours[name][side], paper) for paper in papers + own) >= 4.5, name
    assert colours["paper"][1] == DARK_PAPER


@pytest.mark.parametrize("points", [1, 2, MOST_POINTS, MOST_POINTS + 1, 1000])
def test_curves_are_thinned_evenly(points: int) -> None:
    kept = evenly_spaced_places(points, MOST_POINTS)
    assert kept[0] == 0 and kept[-1] == points - 1 and len(kept) == min(points, MOST_POINTS)
    assert len(set(kept)) == len(kept)
    gaps = np.diff(kept)
    assert points == 1 or gaps.max() - gaps.min() <= 1


def test_many_runs_have_shorter_curves() -> None:
    assert points_of(0) == points_of(400) == MOST_POINTS and points_of(5_000) == 20
    assert points_of(10**6) == FEWEST_POINTS and 10_000 * points_of(10_000) <= ALL_POINTS


def curve(folder: Path, record: Record, rows: Sequence[tuple[float, float]]) -> None:
    text = "epoch,step,seconds,score\n" + "".join(f"{epoch},{epoch},1,{score}\n" for epoch, score in rows)
    (run_folder(folder, record.data, record.variant, record.seed) / CURVE).write_text(text, encoding="utf-8")


def test_long_and_odd_curves(tmp_path: Path) -> None:
    records = [make_record(epochs=200), make_record(seed=1)]
    write_runs(tmp_path, records)
    curve(tmp_path, records[0], [(epoch, epoch / 1000) for epoch in range(1, 201)])
    curve(tmp_path, records[1], [(1, 0.1), (2, math.inf), (3, 0.7), (3, 0.5), (math.nan, 0.2)])
    with without_drawing():
        write_reports(tmp_path, records, tmp_path / "out")
    long, odd = data_of(read_page(tmp_path / "out" / PAGE))["runs"]
    assert len(long["curve"]) == len(long["at"]) == MOST_POINTS
    assert (long["at"][0], long["at"][-1], long["curve"][-1]) == (1, 200, 20)
    assert odd["curve"] == [10, None, 50] and "at" not in odd


def test_only_the_curve_of_a_finished_run_must_be_readable(tmp_path: Path) -> None:
    records = [make_record(), make_unfinished("failed", "no memory", seed=1)]
    write_runs(tmp_path, records)
    damaged = run_folder(tmp_path, "digits", "ew", 1) / CURVE
    damaged.write_text("epoch,score\n1,much\n", encoding="utf-8")
    with without_drawing():
        write_reports(tmp_path, records, tmp_path / "out")
    _, failed = data_of(read_page(tmp_path / "out" / PAGE))["runs"]
    assert "expected numbers" in failed["remark"] and "curve" not in failed
    with without_drawing(), pytest.raises(RecordError):
        damaged.rename(run_folder(tmp_path, "digits", "ew", 0) / CURVE)
        write_reports(tmp_path, records, tmp_path / "out")


def test_a_page_of_somebody_else_is_kept(tmp_path: Path) -> None:
    (tmp_path / PAGE).write_text("<h1>My site</h1>", encoding="utf-8")
    with without_drawing(), pytest.raises(StorageError, match="expected an index of reports"):
        write_reports(tmp_path, [make_record()], tmp_path)
    assert (tmp_path / PAGE).read_text(encoding="utf-8") == "<h1>My site</h1>"


def test_tables_of_many_tasks_are_named_by_metric(page: Element) -> None:
    (comparison,) = comparisons(make_study("faces", ("EW", "NORMAL"), (0, 1)))
    names = {f"on/faces/{table.name}" for table in score_tables(comparison, USUAL)}
    assert names <= {table.attributes["id"] for table in page.all("table")}
