"""Splits by lists: what they say is what is read, and what is wrong with them is named."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from data_trees import (
    CLASSES,
    DOMAINS,
    SETTINGS,
    Member,
    Trees,
    every_office,
    files_of,
    office_split,
    parts,
    read,
    same,
    view,
    write_digits,
)

from bench import data
from bench.records.store import read_record
from bench.run import main
from datasets import DATASETS
from datasets.contract import DataError, DataSettings, Splits
from datasets.office import PARTS, partition

NAMES = {"office31": ("amazon", "dslr", "webcam"), "officehome": ("Art", "Clipart", "Product", "Real_World")}
ENDINGS = ("train", "val", "test")

Lists = dict[str, list[str]]  # file name -> its lines


def label_id(name: str, label: int) -> int:
    """A numbering that is not the alphabet's."""
    return (7 * label + 3) % len(CLASSES[name])


def part_of(domain: int, label: int, index: int) -> int | None:
    """Which part a file is listed in; the last file of the first class in none."""
    if label == 0 and index == files_of(domain, label) - 1:
        return None
    return (label + index + domain) % 3


def lines_of(name: str, start: Callable[[str, str], str]) -> Lists:
    """Lists of a tree; start(domain, its folder in the tree) is where paths begin."""
    lists: Lists = {f"{domain}_{ending}.txt": [] for domain in NAMES[name] for ending in ENDINGS}
    for domain, (key, folder) in enumerate(zip(NAMES[name], DOMAINS[name], strict=True)):
        for label, class_name in reversed(list(enumerate(CLASSES[name]))):
            for index in range(files_of(domain, label)):
                part = part_of(domain, label, index)
                if part is not None:
                    path = f"{start(key, folder)}{class_name}/frame_{index:04d}.jpg"
                    lists[f"{key}_{ENDINGS[part]}.txt"].append(f"{path} {label_id(name, label)}")
    return lists


def write(folder: Path, lists: Lists) -> DataSettings:
    """Settings that ask for these lists."""
    folder.mkdir()
    for name, lines in lists.items():
        (folder / name).write_text("".join(f"{line}\n" for line in lines))
    return replace(SETTINGS, splits=str(folder))


def expected_members(name: str) -> list[list[list[Member]]]:
    """part -> domain -> (label, index), labels numbered by the alphabet of the folders"""
    return [
        [
            [
                (label, index)
                for label in range(len(CLASSES[name]))
                for index in range(files_of(domain, label))
                if part_of(domain, label, index) == part
            ]
            for domain in range(len(NAMES[name]))
        ]
        for part in range(3)
    ]


STARTS: dict[str, Callable[[str, str], str]] = {
    "the data set": lambda domain, folder: f"{folder}/",
    "the domain": lambda domain, folder: "images/" if "/images" in folder else "",
    "the classes": lambda domain, folder: "",
    "here": lambda domain, folder: f"./{folder}/",
    "another spelling": lambda domain, folder: f"{'Real World' if domain == 'Real_World' else domain}/",
}


@every_office
@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
def test_lists_say_who_is_where(tmp_path: Path, trees: Trees, name: str, start: Callable[[str, str], str]) -> None:
    splits = read(name, trees(name), write(tmp_path / "lists", lines_of(name, start)))
    assert office_split(splits) == expected_members(name)
    counts = [[len(domain) for domain in part] for part in expected_members(name)]
    keys = [task.key for task in DATASETS[name].tasks]
    assert splits.provenance["counts"] == {
        p: dict(zip(keys, c, strict=True)) for p, c in zip(PARTS, counts, strict=True)
    }
    assert splits.provenance["rule"] == "lists given by data.splits"
    assert "seed" not in splits.provenance


def test_the_order_of_lines_and_the_numbering_of_classes_do_not_matter(tmp_path: Path, trees: Trees) -> None:
    lists = lines_of("office31", STARTS["the data set"])
    other = {
        name: [re.sub(r"\d+$", lambda found: str(30 - int(found[0])), line) for line in reversed(lines)]
        for name, lines in lists.items()
    }
    first, second = (
        read("office31", trees("office31"), write(tmp_path / key, each)) for key, each in (("a", lists), ("b", other))
    )
    assert same(first, second)
    assert first.provenance == second.provenance


@every_office
def test_lists_of_the_drawn_partition_give_the_drawn_partition(tmp_path: Path, trees: Trees, name: str) -> None:
    drawn = read(name, trees(name))
    lists: Lists = {f"{domain}_{ending}.txt": [] for domain in NAMES[name] for ending in ENDINGS}
    for domain, (task, key) in enumerate(zip(DATASETS[name].tasks, NAMES[name], strict=True)):
        for label, class_name in enumerate(CLASSES[name]):
            for ending, members in zip(
                ENDINGS, partition(files_of(domain, label), 0, task.key, class_name), strict=True
            ):
                lines = [f"{DOMAINS[name][domain]}/{class_name}/frame_{index:04d}.jpg {label}" for index in members]
                lists[f"{key}_{ending}.txt"] += lines
    listed = read(name, trees(name), write(tmp_path / "lists", lists))
    assert same(drawn, listed)
    assert listed.provenance["digest"] == drawn.provenance["digest"]


def test_classes_with_few_images_need_lists(tmp_path: Path, trees: Trees) -> None:
    view(trees("office31"), tmp_path / "tree", "dslr/images/TV")
    for index in range(3, files_of(1, 1)):
        (tmp_path / f"tree/dslr/images/TV/frame_{index:04d}.jpg").unlink()
    with pytest.raises(DataError, match=r"at least 5 images to split, found 3; .*--splits DIR"):
        read("office31", tmp_path / "tree")
    lists = lines_of("office31", STARTS["the data set"])
    for name, lines in lists.items():
        lists[name] = [line for line in lines if not re.match(r"dslr/images/TV/frame_000[3-9]", line)]
    splits = read("office31", tmp_path / "tree", write(tmp_path / "lists", lists))
    assert sum(member[0] == 1 for part in office_split(splits) for member in part[1]) == 3


Spoil = Callable[[Lists], object]


def line_changed(name: str, change: Callable[[str], str]) -> Spoil:
    """The second line of a list."""

    def spoil(lists: Lists) -> None:
        lists[name][1] = change(lists[name][1])

    return spoil


def last(lists: Lists, name: str) -> str:
    return f"{name}:{len(lists[name])}"


TRAIN, VAL, TEST = "amazon_train.txt", "amazon_val.txt", "webcam_test.txt"
LINE = "the path of an image and a label from 0 to 30, found"
EACH_PART = ": expected a list for each part of each domain, found no"
ONE_PLACE = f"/{VAL}:2: expected each image once, found amazon/"
FAULTS: dict[str, tuple[Spoil, str]] = {
    "list missing": (lambda lists: lists.pop("dslr_val.txt"), f"{EACH_PART} dslr_val.txt;"),
    "two lists missing": (
        lambda lists: (lists.pop(TRAIN), lists.pop(TEST)),
        f"{EACH_PART} {TRAIN}, {TEST};",
    ),
    "empty list": (lambda lists: lists[VAL].clear(), f"/{VAL}: expected lines with the path of an image and its label"),
    "no label": (line_changed(VAL, lambda line: line.split()[0]), f"/{VAL}:2: expected {LINE} 'amazon/"),
    "label in words": (line_changed(VAL, lambda line: f"{line.split()[0]} TV"), f"/{VAL}:2: expected {LINE} 'amazon/"),
    "label too high": (line_changed(VAL, lambda line: f"{line.split()[0]} 31"), f"/{VAL}:2: expected {LINE} 'amazon/"),
    "negative label": (line_changed(VAL, lambda line: f"{line.split()[0]} -1"), f"/{VAL}:2: expected {LINE} 'amazon/"),
    "label alone": (line_changed(VAL, lambda line: "4"), f"/{VAL}:2: expected {LINE} '4'"),
    "absent image": (
        line_changed(VAL, lambda line: line.replace("frame_", "photo_")),
        f"/{VAL}:2: expected an image below ",
    ),
    "image of another domain": (
        line_changed(VAL, lambda line: line.replace("amazon", "dslr")),
        f"/{VAL}:2: expected an image below ",
    ),
    "no class folder": (
        line_changed(VAL, lambda line: "amazon/images/frame_0000.jpg 3"),
        f"/{VAL}:2: expected an image below ",
    ),
    "another number for a class": (
        line_changed(TEST, lambda line: f"{line.split()[0]} {(int(line.split()[1]) + 1) % 31}"),
        f"/{TEST}:2: expected label ",
    ),
    "image in two parts": (lambda lists: lists[VAL].insert(1, lists[TRAIN][4]), ONE_PLACE),
    "image twice in a list": (lambda lists: lists[VAL].insert(1, lists[VAL][0]), ONE_PLACE),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_what_is_wrong_with_lists_is_named(tmp_path: Path, trees: Trees, fault: tuple[Spoil, str]) -> None:
    spoil, message = fault
    lists = lines_of("office31", STARTS["the data set"])
    spoil(lists)
    with pytest.raises(DataError) as caught:
        read("office31", trees("office31"), write(tmp_path / "lists", lists))
    assert str(caught.value).startswith(f"{tmp_path / 'lists'}{message}")
    assert ", found " in str(caught.value)


def test_both_places_of_an_overlap_are_named(tmp_path: Path, trees: Trees) -> None:
    lists = lines_of("office31", STARTS["the data set"])
    lists[VAL].append(lists[TRAIN][4])
    place = last(lists, VAL)
    settings = write(tmp_path / "lists", lists)
    image = lists[TRAIN][4].split()[0]
    with pytest.raises(DataError) as caught:
        read("office31", trees("office31"), settings)
    assert str(caught.value) == (
        f"{tmp_path / 'lists' / place}: expected each image once, found {image} also in "
        f"{tmp_path / 'lists' / TRAIN}:5; keep one of the two lines."
    )


def test_one_number_for_two_classes_is_refused(tmp_path: Path, trees: Trees) -> None:
    lists = lines_of("office31", STARTS["the data set"])
    taken, free = label_id("office31", 4), label_id("office31", 5)
    for name, lines in lists.items():
        lists[name] = [re.sub(rf" {free}$", f" {taken}", line) for line in lines]
    with pytest.raises(DataError, match=rf"expected class \S+ for label {taken} as in .*, found back_pack_0\d; number"):
        read("office31", trees("office31"), write(tmp_path / "lists", lists))


def test_a_folder_of_lists_that_is_not_there_is_named(tmp_path: Path, trees: Trees) -> None:
    settings = replace(SETTINGS, splits=str(tmp_path / "lists"))
    with pytest.raises(DataError, match=rf"^data\.splits: expected a folder .*, found none at {tmp_path / 'lists'}"):
        read("office31", trees("office31"), settings)


DIGITS = ("plain", "inverted", "outline", "noisy")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with a few of the digits."""
    root = tmp_path_factory.mktemp("data")
    write_digits(root)
    return root


def digit_lists(folder: Path) -> Lists:
    """Of each class of each domain both views of three digits to train, of one to validate, and of one to test."""
    lists: Lists = {}
    for domain in DIGITS:
        for place in (folder / domain / "images").iterdir():
            for index, file in enumerate(sorted(place.iterdir())):
                line = f"{file.relative_to(folder)} {9 - int(place.name)}"
                lists.setdefault(f"{domain}_{ENDINGS[max(0, index // 2 - 2)]}.txt", []).append(line)
    return lists


@pytest.mark.slow
def test_a_run_by_lists_says_so(tmp_path: Path, digits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lists, results = tmp_path / "lists", tmp_path / "results"
    write(lists, digit_lists(digits / "digits"))
    words = f"--method ew --data digits --seeds 0 --epochs 1 --jobs 1 --data-root {digits} --results {results}"
    assert main([*words.split(), "--splits", str(lists)]) == 0
    assert f"digits: found in {digits / 'digits'}." in capsys.readouterr().out
    (path,) = results.rglob("record.json")
    record = read_record(path)
    assert re.fullmatch(r"lists-[0-9a-f]{12}", record.overrides["data.splits"])
    assert record.splits["rule"] == "lists given by data.splits"
    assert record.splits["counts"]["train"] == dict.fromkeys(DIGITS, 60)
    assert record.splits["counts"]["test"] == dict.fromkeys(DIGITS, 20)


def test_wrong_lists_end_a_command_with_a_sentence(
    tmp_path: Path, digits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = f"--method ew --data digits --data-root {digits} --results {tmp_path / 'results'}"
    assert main([*words.split(), "--splits", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"{tmp_path}{EACH_PART} plain_train.txt, plain_val.txt")
    assert len(error.splitlines()) == 1


Check = Callable[[Lists], tuple[int, str]]


@pytest.fixture
def check(digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Check:
    """`bench.data check digits --splits`: its exit code and all that it prints."""

    def call(lists: Lists) -> tuple[int, str]:
        write(tmp_path / "lists", lists)
        code = data.main(["check", "digits", "--splits", str(tmp_path / "lists"), "--data-root", str(digits)])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return call


def test_check_counts_what_lists_name_and_leave_out(digits: Path, tmp_path: Path, check: Check) -> None:
    lists = digit_lists(digits / "digits")
    del lists["inverted_train.txt"][3:6], lists["noisy_test.txt"][0]
    code, out = check(lists)
    assert code == 0 and "wrong" not in out
    assert re.search(r"\nplain: train / validation / test +2,148 / 710 / 736 +60 / 20 / 20 +differs", out)
    assert re.search(r"\ninverted: train / validation / test .* 57 / 20 / 20 +differs", out)
    assert "\n3 images of inverted are in no list; runs ignore them.\n" in out
    assert "\n1 image of noisy is in no list; runs ignore it.\n" in out and "plain are" not in out
    settings = DataSettings(None, splits=str(tmp_path / "lists"))
    assert read("digits", digits / "digits", settings).provenance["unlisted"] == {"inverted": 3, "noisy": 1}


def test_complete_lists_leave_nothing_out(digits: Path, tmp_path: Path) -> None:
    settings = write(tmp_path / "lists", digit_lists(digits / "digits"))
    assert "unlisted" not in read("digits", digits / "digits", replace(settings, image_size=None)).provenance


def test_check_names_all_errors_of_lists(digits: Path, tmp_path: Path, check: Check) -> None:
    lists = digit_lists(digits / "digits")
    lists["plain_val.txt"][1] = lists["plain_val.txt"][1].replace("plain", "noisy")
    lists["plain_test.txt"].append("plain/images/0/absent.png 0")
    lists["outline_test.txt"].append(lists["outline_train.txt"][0])
    lists["noisy_train.txt"][2] = "no label"
    lists["noisy_val.txt"][0] = f"{lists['noisy_val.txt'][0].split()[0]} 99"
    lists["inverted_val.txt"].clear()
    del lists["inverted_test.txt"]
    code, out = check(lists)
    assert code == 1 and "\nErrors, 7 in all:\n" in out and out.endswith("\n7 errors: fix before any run.\n")
    for place, expected in (
        ("", "expected a list for each part of each domain, found no inverted_test.txt"),
        ("/plain_val.txt:2", "expected an image below "),
        ("/plain_test.txt:21", "expected an image below "),
        ("/outline_test.txt:21", "expected each image once, found outline/"),
        ("/noisy_train.txt:3", "expected the path of an image and a label from 0 to 9, found 'no label'"),
        ("/noisy_val.txt:1", "expected the path of an image and a label from 0 to 9, found "),
        ("/inverted_val.txt", "expected lines with the path of an image and its label, found none"),
    ):
        assert f"\n{tmp_path / 'lists'}{place}: {expected}" in out


def test_another_label_for_a_class_is_one_error(digits: Path, tmp_path: Path, check: Check) -> None:
    lists = digit_lists(digits / "digits")
    lists["noisy_train.txt"] = [re.sub(" 9$", " 8", line) for line in lists["noisy_train.txt"]]
    code, out = check(lists)
    assert code == 1 and "\n1 error: fix" in out and "expected label 9 for class 0 as in " in out


def test_check_splits_drops_the_least_number_of_images(digits: Path, tmp_path: Path, check: Check) -> None:
    """The floor rule needs five digits of a class; lists don't."""
    place = digits / "digits" / "plain/images/0"
    spare = sorted(place.iterdir())[3:]
    kept = {path: path.read_bytes() for path in spare}
    try:
        for path in spare:
            path.unlink()
        lists = digit_lists(digits / "digits")
        code, out = check(lists)
        assert code == 0 and "expected" in out and "at least 5" not in out
        with pytest.raises(DataError, match="at least 5 items to split, found 2"):
            read("digits", digits / "digits", DataSettings(None))
    finally:
        for path, content in kept.items():
            path.write_bytes(content)


@pytest.mark.parametrize(
    ("origin", "place"), [("plain_train.txt", "plain_test.txt"), ("noisy_test.txt", "noisy_val.txt")]
)
def test_images_of_a_digit_in_two_parts_are_one_error(
    origin: str, place: str, digits: Path, tmp_path: Path, check: Check
) -> None:
    """Views of a digit, in one domain or in two, would be in training and in test."""
    lists = digit_lists(digits / "digits")
    moved = lists[origin].pop(0)
    lists[place].append(moved)
    code, out = check(lists)
    assert code == 1 and "\n1 error: fix" in out
    with pytest.raises(DataError, match="expected all images of an item in one part, found ") as error:
        read("digits", digits / "digits", DataSettings(None, splits=str(tmp_path / "lists")))
    assert moved.split()[0] in str(error.value)


def test_digits_need_five_of_a_class_however_many_views(digits: Path, tmp_path: Path) -> None:
    """Three digits in two views are six images, none of which would validate."""
    view(digits / "digits", tmp_path / "digits", "plain/images/0")
    for path in sorted((tmp_path / "digits/plain/images/0").iterdir())[6:]:
        path.unlink()
    with pytest.raises(DataError, match=r"plain/images/0: expected at least 5 items to split, found 3; .*--splits DIR"):
        read("digits", tmp_path / "digits", DataSettings(None))
    inventory = DATASETS["digits"].inventory
    assert inventory is not None
    (error,) = inventory(tmp_path / "digits", DataSettings(None)).errors
    assert "expected at least 5 items to split, found 3" in error


def test_parts_keep_their_order(tmp_path: Path, trees: Trees) -> None:
    splits: Splits = read("office31", trees("office31"), write(tmp_path / "l", lines_of("office31", STARTS["here"])))
    for part in parts(splits):
        for task, source in enumerate(part):
            assert source.targets[task].tolist() == sorted(source.targets[task].tolist())
