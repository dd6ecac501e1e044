"""Random command lines: real options and names, near misses, and values that nobody should type."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.spec.resolve import resolve
from datasets import DATASETS
from methods import ARCHITECTURES, METHODS, WEIGHTINGS

# How often each is drawn; the toy problem and the doctor take longest.
COMMANDS = {
    "run": 40, "plan": 20, "report": 15, "data": 10, "relations": 8, "speed": 8, "runs": 8, "bench": 5, "toy": 3,
    "doctor": 2,
}  # fmt: skip
NASTY = (
    "", " ", "-", "--", "-1", "0", "\x00", "a\x00b", "\n", "a\nb", "\x1b[31mred\x1b[0m", "\u0663", "\u00b2", "\udcff",
    "\u202e", "\u2028", "x" * 300, "x" * 5000, "9" * 30, "9" * 5000, "-0", "1e400", "nan", "inf", "../../up", ".", "..",
    "~nobody-here", "$(ls)", "%s%n", "{0}", "all", "ALL", "none", "auto", "cpu", "cpu:1", "cpu:9999999999", "meta",
    "mps", "cuda:99", "'", '"', "[", "&a [*a]", "!!python/object/apply:os.getcwd []", "=", "a=b", "-h=3", "@file", "\\",
    "ß",
)  # fmt: skip
VALUES = (
    "0", "1", "-1", "1.5", "-0.0", "1e-3", "1e400", "5e-324", ".inf", "-.inf", ".nan", "true", "no", "null", "~", "''",
    "'1'", "[]", "[1]", "[1,2]", "[1,2,3,4]", "[1,.inf]", "[-0.0,1]", "[true]", "[[1]]", "{}", "{a: 1}", "[", "&a [*a]",
    "!!set {1}", "!!binary aGk=", "2020-01-01", "2020-99-99", "1:30", "0x" + "f" * 4000, "9" * 400, "9" * 4000, "fp32",
    "bf16", "paper", "released", "plain", "resnet18", "small", "lists", "shared", "representation", "<<: 1", "? a",
    "\x00", "a\x1bb", "\udcff", "'a\nb'", "x" * 5000, "[" * 100, "- " * 50 + "1", "!!float x", "0b11", "1_000", "*x",
    "!!timestamp x", "!!int ''", "!!python/name:os", "!", "%TAG", "---\na", "'\\", '"\\x"', "@", "`", "\t1", "#", ": ",
)  # fmt: skip
PLAUSIBLE = ("0", "1", "2", "0.5", "1e-3", "-0.0", ".inf", "true", "false", "[1]", "[1, 2, 3, 4]", "none", "paper", "4")
WHOLE = ("1", "2", "3", "0", "-1", "1000000", "99999999999999999999", "1.0", "1e3", "٣", "²", "+1", " 1", "1_0", "")
STUDIES = (
    "embedded",
    "quick",
    "paper",
    "ablation",
    "relations",
    "shortcuts",
    "flowtimes",
    "eta",
    "sizes",
    "embeded",
    "../quick",
    "",
)


SHARED = ("train", "data", "backbone", "heads", "compute")  # sections of settings that all methods have
EMBEDDED = ("digits", "rooms", "faces")


@dataclass(frozen=True)
class Choices:
    """Where the words of a command line come from. paths: folders and files that may be read and written."""

    draw: random.Random
    paths: Sequence[str]

    def of(self, *words: str) -> str:
        return self.draw.choice(words)

    def word(self, names: Sequence[str]) -> str:
        """A name, mostly a real one, else misspelt or nasty."""
        chance = self.draw.random()
        name = self.draw.choice(list(names))
        if chance < 0.93:
            return name
        return _misspelt(name, self.draw) if chance < 0.97 else self.of(*NASTY)

    def whole(self) -> str:
        return self.of("1", "2") if self.draw.random() < 0.9 else self.of(*WHOLE, *NASTY)

    def path(self) -> str:
        if self.draw.random() < 0.97:
            return self.of(*self.paths)
        # Nothing that leads out of the temporary folder.
        return self.of(*(word for word in NASTY if not word.startswith(("..", "~", "/", "$"))))

    def assignment(self) -> str:
        """Mostly a real setting of some method."""
        key = self.word(SETTINGS)
        value = self.of(*PLAUSIBLE) if self.draw.random() < 0.5 else self.of(*VALUES)
        return f"{key}={value}" if self.draw.random() < 0.97 else self.of(key, *NASTY)

    def some(self, one: Callable[[], str]) -> list[str]:
        return [one() for _ in range(self.draw.choices((0, 1, 2, 3), (1, 30, 12, 6))[0])]


def _misspelt(name: str, draw: random.Random) -> str:
    place = draw.randrange(len(name) + 1)
    return draw.choice((name[:place] + name[place + 1 :], name[:place] + "x" + name[place:], name.upper(), f"{name} "))


def _settings() -> list[str]:
    specs = [resolve("digits", weighting=name) for name in WEIGHTINGS]
    specs += [resolve("digits", architecture=name) for name in ARCHITECTURES]
    dotted = (f"{s}.{key}" for spec in specs for s, values in spec.settings.as_dict().items() for key in values)
    own, shared = [], []
    for key in dict.fromkeys(dotted):
        (shared if key.partition(".")[0] in SHARED else own).append(key)
    return own + 3 * shared  # those of one method are refused with the others


SETTINGS = _settings()


def command_line(command: str, choices: Choices) -> list[str]:
    """The words after `python -m bench.COMMAND`; those that keep it short come last, where they win."""
    made = {"run": _run, "plan": _plan, "report": _report, "data": _data, "relations": _relations, "toy": _toy}
    made |= {"doctor": _doctor, "speed": _speed, "bench": _bench, "runs": _runs}
    words = made[command](choices)
    if choices.draw.random() < 0.03 and words:  # a word too many, or in the wrong place
        words.insert(choices.draw.randrange(len(words)), choices.of(*NASTY, "--no-such", "--help=1", "-x"))
    return words


def _option(choices: Choices, share: float, name: str, one: Callable[[], str], many: bool = False) -> list[str]:
    if choices.draw.random() >= share:
        return []
    if choices.draw.random() < 0.02:
        name = _misspelt(name, choices.draw)
    values = choices.some(one) if many else [one()]
    return [f"{name}={values[0]}"] if values and choices.draw.random() < 0.1 else [name, *values]


def _what(choices: Choices) -> list[str]:
    def option(share: float, name: str, one: Callable[[], str], many: bool = False) -> list[str]:
        return _option(choices, share, name, one, many)

    if choices.draw.random() < 0.85:
        words = option(0.9, "--method", lambda: choices.word([*METHODS]), many=True)
        words += option(0.95, "--data", lambda: choices.word([*EMBEDDED, *EMBEDDED, *DATASETS]), many=True)
    else:
        words = option(1.0, "--study", lambda: choices.word([*STUDIES, *choices.paths]))
    words += option(0.1, "--arch", lambda: choices.word([*ARCHITECTURES]))
    words += option(0.1, "--weighting", lambda: choices.word([*WEIGHTINGS, "torchjd:mgda", "libmtl:ew", "x:y"]))
    words += option(0.3, "--seeds", choices.whole, many=True)
    words += option(0.5, "--set", choices.assignment, many=True)
    words += option(0.2, "--epochs", choices.whole)
    words += option(0.05, "--splits", choices.path)
    return words


def _how(choices: Choices) -> list[str]:
    words = _option(choices, 0.1, "--device", lambda: choices.of("cpu", "auto", *NASTY))
    words += _option(choices, 0.1, "--jobs", choices.whole)
    words += _option(choices, 0.1, "--threads", choices.whole)
    words += _option(choices, 1.0, "--results", choices.path)
    words += _option(choices, 1.0, "--data-root", choices.path)
    return words + _option(choices, 1.0, "--cache-dir", choices.path)


def _run(choices: Choices) -> list[str]:
    return [*_what(choices), *_how(choices), "--dry-run"]


def _plan(choices: Choices) -> list[str]:
    words = [*_what(choices), *_how(choices), *_option(choices, 0.1, "--budget", choices.whole)]
    return [*words, *choices.some(lambda: "--json")[:1], "--budget", "1"]


def _report(choices: Choices) -> list[str]:
    words = _option(choices, 0.2, "--study", lambda: choices.word([*STUDIES, *choices.paths]))
    words += _option(choices, 0.2, "--data", lambda: choices.word([*EMBEDDED]), many=True)
    words += _option(choices, 0.2, "--tasks", lambda: choices.word(["plain", "colour", "Smiling"]), many=True)
    words += choices.some(lambda: choices.word(["--ci", "--means", "--per-task"]))[:1]
    words += _option(choices, 0.2, "--decimals", choices.whole)
    words += _option(choices, 0.2, "--order", lambda: choices.word(["study", "score", "name"]))
    words += _option(choices, 0.2, "--exclude", lambda: choices.word([*METHODS]), many=True)
    return [*words, "--results", choices.path(), "--out", choices.path()]


def _runs(choices: Choices) -> list[str]:
    command = choices.word(["list", "show", "diff", "status", "rm", "export"])
    names = {"show": 1, "diff": 2, "rm": choices.draw.randrange(3)}.get(command, 0)
    words = [command, *(choices.of("ew", "digits/ew/0", "normal/0", *choices.paths, *NASTY) for _ in range(names))]
    if command in ("list", "rm", "status"):
        words += _option(choices, 0.2, "--data", lambda: choices.word([*EMBEDDED]), many=True)
        words += _option(choices, 0.2, "--study", lambda: choices.word([*STUDIES, *choices.paths]))
    if command in ("list", "rm"):
        words += _option(choices, 0.3, "--status", lambda: choices.word(["done", "failed", "stale"]), many=True)
        words += ["--yes"] if command == "rm" else choices.some(lambda: choices.of("--json", "--csv"))[:1]
    return [*words, *(["--parquet", choices.path()] if command == "export" else []), "--results", choices.path()]


def _data(choices: Choices) -> list[str]:
    command = choices.word(["list", "how", "check"])
    # To check embedded data would make it first, which takes seconds.
    names = [name for name in DATASETS if command != "check" or name not in EMBEDDED]
    words = [command] if command == "list" else [command, choices.word(names)]
    if command == "check":
        words += _option(choices, 0.3, "--image-size", lambda: choices.of("none", "32", "64", *WHOLE), many=True)
        words += _option(choices, 0.1, "--splits", choices.path)
    words += _option(choices, 1.0, "--data-root", choices.path)
    return words + ([] if command == "how" else _option(choices, 1.0, "--cache-dir", choices.path))


def _relations(choices: Choices) -> list[str]:
    words = _option(choices, 0.3, "--data", lambda: choices.word([*EMBEDDED]), many=True)
    return [*words, "--results", choices.path(), "--out", choices.path(), "--data-root", choices.path()]


def _toy(choices: Choices) -> list[str]:
    words = _option(choices, 0.5, "--lr", lambda: choices.of("0.1", "1", "1e300", "0", "nan", *NASTY))
    words += _option(choices, 0.3, "--momentum", lambda: choices.of("0.5", "1", "-0", *NASTY))
    words += _option(choices, 0.3, "--seed", choices.whole)
    return [*words, "--method", choices.word([*WEIGHTINGS]), "--steps", "1", "--jobs", "1", "--out", choices.path()]


def _doctor(choices: Choices) -> list[str]:
    words = _option(choices, 0.9, "--results", choices.path)
    return [*words, *_option(choices, 0.9, "--data-root", choices.path), *choices.some(lambda: "--no-such")[:1]]


def _speed(choices: Choices) -> list[str]:
    """Lines that end before anything is measured: the last option is always wrong."""
    words = [choices.word(["step", "scaling", "shortcuts", "solvers", "flow", "data"])]
    words += _option(choices, 0.5, "--rounds", choices.whole)
    words += _option(choices, 0.5, "--set", choices.assignment, many=True)
    words += _option(choices, 0.5, "--methods", lambda: choices.word([*METHODS]), many=True)
    return [*words, choices.of("--device=no-such", "--rounds=0", "--threads=-1", "--no-such")]


def _bench(choices: Choices) -> list[str]:
    return [choices.of("rnu", "reprot", "-x", "--help", *NASTY), *choices.some(lambda: choices.of(*NASTY))]


# What a study may hold: true keys with true and nasty values, mixed at random.
_TREES = (
    None, True, 0, -1, 1.5, 10**30, float("inf"), float("nan"), "", "ew", "all", "digits", "..", "a\x1b", "x" * 3000,
    [], [0], [0, 1], ["ew"], ["digits"], [[]], [None], {}, {"train.epochs": 1}, {"train.epochs": []}, {"a": {"b": {}}},
    {"weighting.c": "-.inf"}, {1: 2}, {"": ""}, {"arch.initial_positions": [1, 2, 3, 4]}, ["ew"] * 50, "../../up",
)  # fmt: skip


def study(draw: random.Random) -> object:
    """The content of a study's file, mostly nearly right."""
    row = _mixed(
        draw,
        {"label": "A", "method": "ew", "set": {"train.epochs": 1}, "data": ["digits"], "weighting": "uw"},
        ("arch", "permute"),
    )
    table = _mixed(draw, {"name": "one", "title": "One", "rows": [row]}, ("unknown",))
    whole: dict[str, object] = {"title": "A study", "data": ["digits"], "seeds": [0], "folder": "some"}
    whole |= {"methods": ["ew", "cagrad"]} if draw.random() < 0.5 else {"tables": [table]}
    return _mixed(draw, whole, ("set", "only_found", "otherwise", "unknown", "methods"))


def _mixed(draw: random.Random, right: dict[str, object], others: Sequence[str]) -> object:
    """The mapping with a few entries dropped, replaced or added; sometimes something else instead."""
    if draw.random() < 0.02:
        return draw.choice(_TREES)
    kept = {key: draw.choice(_TREES) if draw.random() < 0.08 else value for key, value in right.items()}
    kept = {key: value for key, value in kept.items() if draw.random() < 0.95}
    return kept | {key: draw.choice(_TREES) for key in others if draw.random() < 0.08}
