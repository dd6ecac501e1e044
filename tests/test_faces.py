"""The drawn faces: CelebA's layout on disk, a consistent population, and every attribute visible in the picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from cases import for_every
from numpy.typing import NDArray
from PIL import Image

from datasets.celeba import ATTRIBUTES
from datasets.embedded import faces
from datasets.embedded.face_drawing import HEIGHT, WIDTH, draw

SAMPLES = 4000
FACES_PER_ATTRIBUTE = 6
SQUASHED = (48, 48)

# Visible: so many of the 48x48 pixels differ by more than CLEAR grey levels in some channel, between the same face
# with and without the attribute: at least FEW in every face looked at, ENOUGH in the median face.
CLEAR, FEW, ENOUGH = 20, 8, 20

HAIR_COLOURS = {"Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair"}
HAIR_SHAPES = {"Straight_Hair", "Wavy_Hair"}
BEARDS = {"5_o_Clock_Shadow", "Goatee", "Mustache"}


@pytest.fixture(scope="module")
def population() -> list[Mapping[str, bool]]:
    rng = np.random.default_rng(0)
    return [faces.sample_attributes(rng) for _ in range(SAMPLES)]


@pytest.fixture(scope="module")
def picture(population: list[Mapping[str, bool]]) -> Callable[[int], NDArray[np.int16]]:
    """index -> squashed picture of that face; its index is also its seed."""
    return cache(lambda index: squash(draw(population[index], np.random.default_rng(index))))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faces, "PART_SIZES", (6, 3, 2))


def contradictions(attributes: Mapping[str, bool]) -> list[str]:
    """What no drawn face may be."""
    has = {name for name, holds in attributes.items() if holds}
    male, bald = "Male" in has, "Bald" in has
    rules = {
        "two hair colours": len(has & HAIR_COLOURS) > 1,
        "two hair shapes": len(has & HAIR_SHAPES) > 1,
        "hair on a bald head": bald and bool(has & (HAIR_COLOURS | HAIR_SHAPES | {"Bangs", "Receding_Hairline"})),
        "a hairline below a hat": "Wearing_Hat" in has and bool(has & {"Bald", "Receding_Hairline"}),
        "bangs from a receding hairline": {"Bangs", "Receding_Hairline"} <= has,
        "a beard and none": "No_Beard" in has and bool(has & BEARDS),
        "a bearded woman": not male and ("No_Beard" not in has or bool(has & (BEARDS | {"Sideburns"}))),
        "a man made up": male and bool(has & {"Heavy_Makeup", "Wearing_Lipstick", "Rosy_Cheeks"}),
        "a woman bald or with a necktie": not male and bool(has & {"Bald", "Wearing_Necktie"}),
    }
    return [rule for rule, broken in rules.items() if broken]


def shares(population: list[Mapping[str, bool]]) -> dict[str, float]:
    return {name: sum(face[name] for face in population) / len(population) for name in ATTRIBUTES}


def squash(picture: NDArray[np.uint8]) -> NDArray[np.int16]:
    return np.asarray(Image.fromarray(picture).resize(SQUASHED, Image.Resampling.BILINEAR)).astype(np.int16)


def test_attributes_are_the_forty_of_celeba_in_order(population: list[Mapping[str, bool]]) -> None:
    assert len(ATTRIBUTES) == 40
    assert list(ATTRIBUTES) == sorted(ATTRIBUTES)  # as in the official file
    assert all(list(face) == list(ATTRIBUTES) for face in population)
    assert all(isinstance(value, bool) for value in population[0].values())


def test_no_face_contradicts_itself(population: list[Mapping[str, bool]]) -> None:
    assert [found for face in population for found in contradictions(face)] == []


def test_every_attribute_is_common_enough_to_be_learnt(population: list[Mapping[str, bool]]) -> None:
    assert {name: share for name, share in shares(population).items() if not 0.06 <= share <= 0.85} == {}


@for_every(
    "name, celeba",
    [
        ("Male", 0.42),
        ("Young", 0.77),
        ("Smiling", 0.48),
        ("Attractive", 0.51),
        ("No_Beard", 0.83),
        ("Wavy_Hair", 0.32),
        ("Heavy_Makeup", 0.39),
        ("Wearing_Lipstick", 0.47),
        ("High_Cheekbones", 0.45),
        ("Black_Hair", 0.24),
    ],
)
def test_common_attributes_are_as_common_as_in_celeba(
    population: list[Mapping[str, bool]], name: str, celeba: float
) -> None:
    assert shares(population)[name] == pytest.approx(celeba, abs=0.05)


@for_every(
    "more, where",
    [
        ("Mouth_Slightly_Open", "Smiling"),
        ("High_Cheekbones", "Smiling"),
        ("Wearing_Lipstick", "Heavy_Makeup"),
        ("Rosy_Cheeks", "Heavy_Makeup"),
        ("Double_Chin", "Chubby"),
        ("Attractive", "Young"),
        ("Wearing_Necktie", "Male"),
    ],
)
def test_attributes_depend_on_each_other(population: list[Mapping[str, bool]], more: str, where: str) -> None:
    there = shares([face for face in population if face[where]])[more]
    elsewhere = shares([face for face in population if not face[where]])[more]
    assert there > elsewhere + 0.1


def test_gray_hair_is_mostly_not_young(population: list[Mapping[str, bool]]) -> None:
    assert shares([face for face in population if face["Gray_Hair"]])["Young"] < 0.3


@for_every("name", ATTRIBUTES)
def test_attribute_is_visible(
    population: list[Mapping[str, bool]], picture: Callable[[int], NDArray[np.int16]], name: str
) -> None:
    changed = []
    for index, face in enumerate(population):
        toggled = {**face, name: not face[name]}
        # Blur is there to make the others hard to see; it is not to hide them from this test.
        if contradictions(toggled) or (face["Blurry"] and name != "Blurry"):
            continue
        after = squash(draw(toggled, np.random.default_rng(index)))
        changed.append(int((np.abs(after - picture(index)).max(axis=-1) > CLEAR).sum()))
        if len(changed) == FACES_PER_ATTRIBUTE:
            break
    assert len(changed) == FACES_PER_ATTRIBUTE
    assert min(changed) >= FEW, changed
    assert np.median(changed) >= ENOUGH, changed


def test_chance_does_not_depend_on_attributes(population: list[Mapping[str, bool]]) -> None:
    left = []
    for face in population[:5]:
        rng = np.random.default_rng(1)
        draw(face, rng)
        left.append(rng.random())
    assert len(set(left)) == 1


def test_pictures_of_the_same_attributes_differ(population: list[Mapping[str, bool]]) -> None:
    one, other = (squash(draw(population[0], np.random.default_rng(seed))) for seed in (1, 2))
    assert np.abs(one - other).mean() > 10


def test_layout_is_that_of_celeba(tmp_path: Path, small: None) -> None:
    folder = tmp_path / "root" / "faces"
    faces.make(folder)
    lines = (folder / "Anno" / "list_attr_celeba.txt").read_text().splitlines()
    assert int(lines[0]) == 11 == len(lines) - 2
    assert lines[1].split() == list(ATTRIBUTES)
    rows = [line.split() for line in lines[2:]]
    names = [f"{number:06d}.jpg" for number in range(1, 12)]
    assert [row[0] for row in rows] == names
    assert all(len(row) == 41 and set(row[1:]) == {"-1", "1"} for row in rows)
    partition = (folder / "Eval" / "list_eval_partition.txt").read_text().splitlines()
    assert partition == [f"{name} {part}" for name, part in zip(names, [0] * 6 + [1] * 3 + [2] * 2, strict=True)]
    images = folder / "Img" / "img_align_celeba"
    assert sorted(path.name for path in images.iterdir()) == names
    for name in names:
        with Image.open(images / name) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (WIDTH, HEIGHT))


def test_labels_are_those_of_the_pictures(tmp_path: Path, small: None) -> None:
    faces.make(tmp_path / "faces")
    row = (tmp_path / "faces" / "Anno" / "list_attr_celeba.txt").read_text().splitlines()[4].split()
    attributes = {name: value == "1" for name, value in zip(ATTRIBUTES, row[1:], strict=True)}
    rng = np.random.default_rng((faces.SEED, 2))
    assert faces.sample_attributes(rng) == attributes
    with Image.open(tmp_path / "faces" / "Img" / "img_align_celeba" / row[0]) as image:
        stored = np.asarray(image).astype(np.int16)
    assert np.abs(stored - draw(attributes, rng)).mean() < 5  # what JPEG costs


def test_whole_set_has_the_stated_sizes() -> None:
    assert faces.PART_SIZES == (1400, 300, 300)


def test_same_files_each_time(tmp_path: Path, small: None) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    faces.make(one)
    faces.make(other)
    contents = [
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (one, other)
    ]
    assert len(contents[0]) == 14
    assert contents[0] == contents[1]
