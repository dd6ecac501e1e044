"""Digests of the code of methods: what changes them, what doesn't, and who says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from record_factory import make_record, make_study, without_drawing, write_runs

from bench import ROOT, report, run
from bench.records.method_code import code_digest, read_sources
from bench.records.record import MethodCode, Record
from bench.records.store import run_folder, write_record
from bench.reporting.changed_code import with_changed_code_marked
from bench.reporting.comparison import comparisons
from bench.spec import versions
from bench.spec.resolve import resolve
from bench.spec.versions import changed_code, code_of, versions_of
from methods import ARCHITECTURES, WEIGHTINGS

METHOD = '''
"""A method."""
from __future__ import annotations
from dataclasses import dataclass
from methods.parts import SCALE, double
from methods import others as elsewhere

LIMIT = 3.0


@dataclass(frozen=True)
class Method:
    """What it does."""

    c: float = 0.5

    def step(self, x: float) -> float:
        """The step."""
        return min(double(x) * SCALE, LIMIT) + elsewhere.shift(self.c)
'''
PARTS = """
SCALE = 2

def double(x):
    return _sum(x, x)

def _sum(a, b):
    return a + b

def unused():
    return 1
"""
SOURCES = {
    "methods.one": METHOD,
    "methods.parts": PARTS,
    "methods.others": "def shift(c):\n    return c\n",
    "methods": "",
}


def digest(**changed: tuple[str, str]) -> str:
    """The digest of the method with a text replaced in one module."""
    sources = dict(SOURCES)
    for module, (old, new) in changed.items():
        name = f"methods.{module}"
        assert old in sources[name]
        sources[name] = sources[name].replace(old, new)
    return code_digest("methods.one.Method", sources)


@pytest.mark.parametrize(
    "change",
    [
        {"one": ("What it does.", "Something else.")},
        {"one": ('        """The step."""\n', "")},
        {"one": ("LIMIT = 3.0", "LIMIT = 3.0  # as in the paper\n\n\nUNUSED = 1")},
        {"one": ("x: float) -> float", "x)")},
        {
            "one": (
                "min(double(x) * SCALE, LIMIT)",
                "min(\n            double(x) * SCALE,\n            LIMIT,\n        )",
            )
        },
        {"parts": ("return 1", "return 2")},
        {"parts": ("SCALE = 2\n", 'SCALE = 2\n"""Of the step."""\n')},
    ],
)
def test_what_is_not_executed_does_not_count(change: dict[str, tuple[str, str]]) -> None:
    assert digest(**change) == digest() != ""


@pytest.mark.parametrize(
    "change",
    [
        {"one": ("LIMIT = 3.0", "LIMIT = 4.0")},
        {"one": ("c: float = 0.5", "c: float = 0.6")},
        {"one": ("min(", "max(")},
        {"parts": ("SCALE = 2", "SCALE = 3")},
        {"parts": ("a + b", "a - b")},  # two calls away
        {"others": ("return c", "return -c")},  # by the name of a module
    ],
)
def test_what_is_executed_counts(change: dict[str, tuple[str, str]]) -> None:
    assert digest(**change) not in (digest(), "")


@pytest.mark.parametrize(
    "name", ["", "Method", "methods.one.Absent", "methods.absent.Method", "os.path", "../../etc/passwd.x"]
)
def test_what_is_not_there_has_no_digest(name: str) -> None:
    assert code_digest(name, SOURCES) == ""


def test_code_that_cannot_be_parsed_has_no_digest() -> None:
    assert digest(parts=("return a + b", "return (")) == ""


def test_every_registered_method_has_a_digest_of_its_own() -> None:
    found = {name: code_of("hps", name)["weighting"] for name in WEIGHTINGS}
    assert all(code.digest for code in found.values()) and len({code.digest for code in found.values()}) == len(found)
    found = {name: code_of(name, "ew")["architecture"] for name in ARCHITECTURES}
    assert all(code.digest for code in found.values()) and len({code.digest for code in found.values()}) == len(found)
    assert code_of("hps", "libmtl:mgda")["weighting"].digest


def record_of(method: str, seed: int = 0) -> Record:
    """A record as a run of today would write it."""
    spec = resolve("digits", method, seed=seed)
    return make_record(
        method=spec.label,
        seed=seed,
        settings=spec.settings.as_dict(),
        versions=versions_of(spec),
        code=code_of(spec.architecture, spec.weighting),
    )


@pytest.fixture
def edited_cagrad(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The checkout as if somebody had edited a helper of CAGrad, and nothing of its version."""
    sources = read_sources(ROOT)
    text = sources["methods.weightings.cagrad"]
    assert "squared_radius = np.abs(gram), radius**2" in text
    sources["methods.weightings.cagrad"] = text.replace("radius**2", "2 * radius**2")
    monkeypatch.setattr(versions, "_SOURCES", sources)
    versions._code.cache_clear()
    yield
    versions._code.cache_clear()


def test_an_edited_weighting_under_the_same_version_is_named(
    request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [record_of(method, seed) for method in ("ew", "cagrad") for seed in (0, 1)]
    for record in records:
        write_record(run_folder(tmp_path, "digits", record.variant, record.seed), record)
    options = ["--method", "ew", "cagrad", "--data", "digits", "--seeds", "0", "1", "--dry-run"]
    options += ["--results", str(tmp_path), "--data-root", str(tmp_path)]
    assert run.main(options) == 0
    assert capsys.readouterr().out == "0 runs to train, 4 already kept.\n"
    request.getfixturevalue("edited_cagrad")
    assert run.main(options) == 0
    assert capsys.readouterr().out.splitlines() == [
        "digits: the code of weighting cagrad changed, its version did not, and 2 kept runs were made with the old "
        "code. Raise the version if numbers change, or train again with --force.",
        "0 runs to train, 4 already kept.",
    ]
    assert [changed_code(record) for record in records] == [[], [], ["weighting cagrad"], ["weighting cagrad"]]
    # With another version the run is stale, and nothing more is said; nor of records without digests.
    assert changed_code(records[2].model_copy(update={"versions": {**records[2].versions, "weighting": 9}})) == []
    assert changed_code(records[2].model_copy(update={"code": {}})) == []


def test_reports_mark_rows_of_other_code(tmp_path: Path) -> None:
    records = make_study("digits", ("EW", "UW"), (0, 1))
    names = {"ew": "methods.weightings.ew.EW", "uw": "methods.weightings.uw.UW"}
    today = {key: code_digest(name, read_sources(ROOT)) for key, name in names.items()}
    records = [
        record.model_copy(
            update={
                "code": {
                    "weighting": MethodCode(
                        name=names[record.method],
                        digest="0" * 16 if (record.method, record.seed) == ("uw", 1) else today[record.method],
                    )
                }
            }
        )
        for record in records
    ]
    ew, uw = with_changed_code_marked(comparisons(records)[0]).variants
    assert ew.notes == () and uw.notes == ("made with other code of weighting uw than is here now",)
    write_runs(tmp_path / "results", records)
    with without_drawing():
        assert report.main(["--results", str(tmp_path / "results"), "--out", str(tmp_path / "out")]) == 0
    assert "made with other code of weighting uw than is here now" in (tmp_path / "out/digits/scores.md").read_text()
