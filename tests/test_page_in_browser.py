"""The page of a report in a real browser: it shows, sorts, filters and opens what it should, without an error."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from browser import Tab, browser_tab, chromium
from record_factory import METHODS, make_record, make_study, make_unfinished, without_drawing, write_runs

from bench.records.record import Labels, Record
from bench.reporting.page.render import PAGE
from bench.reporting.reports import write_reports

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium() is None, reason="needs Chromium: apt-get install chromium"),
]

HOSTILE = "a_b & 100% {x} <script>window.hacked = 1</script> <img src=x onerror='window.hacked = 1'>"
VERDICTS = "document.getElementById('on/digits/verdicts')"
PHONE, DESK = 390, 1440
# As many rows as 10,000 runs have in one problem, with 20 seeds each.
MANY_ROWS, SORTING_MS = 500, 200


def records_of_a_study() -> list[Record]:
    """Of ten methods, one fails. UW is far better than EW, MGDA far worse; PCGrad has EW's scores, shuffled."""
    records = make_study("digits", METHODS, range(10))
    of_ew = [run.test for run in records if run.labels.method == "EW"]
    given = {method: [{key: {"accuracy": s} for key in of_ew[0]}] * 10 for method, s in (("UW", 0.99), ("MGDA", 0.5))}
    given["PCGrad"] = of_ew[::-1]
    tests = [given.get(run.labels.method, {run.seed: run.test})[run.seed] for run in records]
    records = [run.model_copy(update={"test": test}) for run, test in zip(records, tests, strict=True)]
    hostile = Labels(data="Digits", method=HOSTILE)
    records += [make_unfinished("failed", HOSTILE, method="X", variant="x", seed=s, labels=hostile) for s in (0, 1)]
    return records + make_study("faces", ("EW", "UW"), (0, 1))


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With real drawings, but without the files of figures, which take longer."""
    folder = tmp_path_factory.mktemp("reports")
    write_runs(folder / "results", records_of_a_study())
    names = ("bench.reporting.reports.save", "bench.reporting.comparison_report.save")
    with mock.patch(names[0], return_value=()), mock.patch(names[1], return_value=()):
        write_reports(folder / "results", records_of_a_study(), folder)
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browser_tab(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture
def tab(browser: Tab, reports: Path) -> Iterator[Tab]:
    """The page, freshly loaded; afterwards, nothing was wrong and no text of a record had an effect."""
    browser.resize(DESK)
    browser.prefer("light")
    browser.js("try { localStorage.clear() } catch { }")
    browser.open(reports / PAGE)
    yield browser
    assert browser.problems == []
    assert browser.js("window.hacked") is None


def column(tab: Tab, place: int) -> list[str]:
    """The texts of a column of the table of verdicts, of the rows that are shown."""
    found = tab.js(
        f"[...{VERDICTS}.tBodies[0].rows].filter(r => !r.hidden).map(r => r.cells[{place}].textContent.trim())"
    )
    assert isinstance(found, list)
    return found


def click(tab: Tab, selector: str) -> None:
    tab.js(f"document.querySelector({selector!r}).click()")


def test_columns_are_sorted_up_down_and_back(tab: Tab) -> None:
    head, button = f"{VERDICTS}.querySelector('.heads').cells[2]", "querySelector('button').click()"
    before = column(tab, 2)
    numbers = [float(text.split()[0]) for text in before if text != "--"]
    assert len(numbers) == len(METHODS) and len(before) == len(METHODS) + 1
    for state, expected in (("ascending", sorted(numbers)), ("descending", sorted(numbers, reverse=True))):
        tab.js(f"{head}.{button}")
        assert tab.js(f"{head}.ariaSort") == state
        shown = column(tab, 2)
        assert [float(text.split()[0]) for text in shown[:-1]] == expected and shown[-1] == "--"  # missing ones last
    tab.js(f"{head}.{button}")
    assert column(tab, 2) == before and tab.js(f"{head}.ariaSort") == "none"


def test_verdicts_are_sorted_from_good_to_bad(tab: Tab) -> None:
    last = tab.js(f"{VERDICTS}.querySelector('.heads').cells.length") - 1
    tab.js(f"{VERDICTS}.querySelector('.heads').cells[{last}].querySelector('button').click()")
    order = ["better than EW", "not separable", "worse", "too few seeds (0)", "--"]
    places = [order.index(text) for text in column(tab, last)]
    assert places == sorted(places) and set(places) == set(range(len(order)))


def enter(tab: Tab, text: str) -> None:
    tab.js(f"filter.value = {text!r}; filter.dispatchEvent(new Event('input'))")


def test_rows_are_filtered_in_all_tables(tab: Tab) -> None:
    enter(tab, "grad -pc")
    assert column(tab, 0) == ["GradNorm", "CAGrad"]
    assert tab.js("document.getElementById('count').textContent").endswith("match.")
    chips = tab.js(
        "[...document.querySelectorAll('.chips li:not([hidden]) button')].map(b => b.firstChild.textContent.trim())"
    )
    assert sorted(chips) == ["CAGrad", "GradNorm"]
    enter(tab, "no such method")
    assert column(tab, 0) == [] and tab.js(f"{VERDICTS}.closest('.table').querySelector('.none').hidden") is False
    enter(tab, "")
    assert len(column(tab, 0)) == len(METHODS) + 1
    tab.js("chosenVerdict.value = 'not separable'; chosenVerdict.dispatchEvent(new Event('change'))")
    last = tab.js(f"{VERDICTS}.querySelector('.heads').cells.length") - 1
    assert set(column(tab, last)) == {"not separable"}


def test_a_click_or_enter_shows_the_runs(tab: Tab) -> None:
    tab.js(f"{VERDICTS}.tBodies[0].rows[1].cells[2].click()")
    assert tab.js("dialog.open") is True
    text = tab.js("dialog.textContent")
    assert "Verdicts, Score ↑: " in text and "0123abc" in text and "train.lr" in text
    assert tab.js("dialog.querySelectorAll('tbody tr').length") == 10
    assert tab.js("dialog.querySelectorAll('.chart path:not(.grid)').length") == 10
    assert tab.js("dialog.querySelectorAll('.chart circle').length") == 10
    tab.press("Escape")
    assert tab.js("dialog.open") is False
    tab.js(f"{VERDICTS}.tBodies[0].rows[1].querySelector('button').focus()")
    for key in ("ArrowDown", "ArrowRight", "ArrowRight"):
        tab.press(key)
    where = "[document.activeElement.parentElement.rowIndex, document.activeElement.cellIndex]"
    assert tab.js(where) == [3, 2]
    tab.press("Enter")
    assert tab.js("dialog.querySelector('h2').textContent") == "GradNorm"
    tab.press("Escape")
    assert tab.js(where) == [3, 2]  # the focus is where it was


def test_failures_say_why_and_stay_text(tab: Tab) -> None:
    assert HOSTILE in tab.js("document.getElementById('failures').textContent")
    tab.js("document.querySelector('#failures tbody tr button').click()")
    text = tab.js("dialog.textContent")
    assert "failed" in text and HOSTILE in text and "not run: seed 2, 3, 4, 5, 6, 7, 8, 9" in text
    assert tab.js("dialog.querySelectorAll('.chart path.unfinished').length") == 2


def test_a_column_of_tasks_shows_its_method(tab: Tab) -> None:
    tab.js("document.getElementById('on/faces/tasks-accuracy').tBodies[0].rows[3].cells[2].click()")
    assert tab.js("dialog.querySelector('h2').textContent") == "UW"
    assert "Tasks: accuracy, Bags Under Eyes, UW: " in tab.js("dialog.textContent")


def background(tab: Tab) -> int:
    """The lightness of the page, 0 to 255."""
    return int(tab.js("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]"))


def test_dark_and_light(tab: Tab) -> None:
    line = "getComputedStyle(document.querySelector('.drawing [stroke=\"#222222\"]')).stroke.match(/\\d+/)[0]"
    assert background(tab) > 200 and int(tab.js(line)) < 100
    tab.prefer("dark")
    assert background(tab) < 60 and int(tab.js(line)) > 150
    click(tab, "#theme")
    assert background(tab) > 200 and tab.js("theme.getAttribute('aria-pressed')") == "false"


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_nothing_overflows_the_page(tab: Tab, width: int) -> None:
    tab.resize(width)
    tab.js("for (const one of document.querySelectorAll('details')) one.open = true")
    assert tab.js("document.documentElement.scrollWidth") == width
    tab.js(f"{VERDICTS}.querySelector('.open').click()")
    assert tab.js("dialog.scrollWidth <= dialog.clientWidth && dialog.getBoundingClientRect().right <= innerWidth")
    if width == DESK:
        assert tab.js("dialog.querySelector('.scroll').scrollWidth <= dialog.querySelector('.scroll').clientWidth")


CUT_OFF = """
const ordinary = (drawing) => !drawing.textContent.includes("hacked");
[...document.querySelectorAll(".drawing svg")].filter(ordinary).flatMap((drawing) => {
  const frame = drawing.getBoundingClientRect();
  const beyond = (text) => {
    const box = text.getBoundingClientRect();
    return box.left < frame.left - 1 || box.right > frame.right + 1;
  };
  return [...drawing.querySelectorAll("text")].filter(beyond).map((text) => text.textContent);
})
"""


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_no_text_of_a_drawing_is_cut_off(tab: Tab, width: int) -> None:
    """Browsers have other fonts than the figures were laid out in. A label of 90 letters fits into no figure."""
    tab.resize(width)
    tab.js("for (const one of document.querySelectorAll('details')) one.open = true")
    assert tab.js("document.querySelectorAll('.drawing text').length") > 100
    assert tab.js(CUT_OFF) == []


def test_all_is_printed(tab: Tab, tmp_path: Path) -> None:
    closed = "document.querySelectorAll('main details:not([open])').length"
    before = tab.js(closed)
    assert before > 5
    tab.js("dispatchEvent(new Event('beforeprint'))")
    assert tab.js(closed) == 0
    tab.js("dispatchEvent(new Event('afterprint'))")
    assert tab.js(closed) == before
    tab.pdf(tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")


def test_a_long_table_is_sorted_at_once(browser: Tab, tmp_path: Path) -> None:
    records = []
    for row in range(MANY_ROWS):
        score = {task.key: {"accuracy": random.Random(row).random()} for task in make_record().tasks}
        variant = f"ew@{row:08x}"
        records.append(make_record(variant=variant, overrides={"train.lr": row / 1000}, test=score))
    with without_drawing():
        write_reports(tmp_path, records, tmp_path / "out")
    browser.open(tmp_path / "out" / PAGE)
    button = f"{VERDICTS}.querySelector('.heads').cells[2].querySelector('button')"
    before = browser.busy()
    browser.js(f"{button}.click(); {VERDICTS}.offsetHeight")
    taken = browser.busy() - before
    shown = [float(text.split()[0]) for text in column(browser, 2)]
    assert shown == sorted(shown) and len(shown) == MANY_ROWS
    assert taken < SORTING_MS, taken
    assert browser.problems == []
