"""What is wrong with a data set is named: the file, what was expected, what was found."""

from __future__ import annotations

from pathlib import Path

import pytest
from damages import DAMAGES, Damage
from data_trees import Trees, read, view

from datasets.contract import DataError
from datasets.pixels import CACHE


@pytest.mark.parametrize(
    ("name", "damage"),
    [pytest.param(name, damage, id=f"{name}-{key}") for name in DAMAGES for key, damage in DAMAGES[name].items()],
)
def test_what_is_wrong_is_named(tmp_path: Path, trees: Trees, name: str, damage: Damage) -> None:
    place = Path(damage.place)
    view(trees(name), tmp_path, str(place.parent if place.suffix else place))
    damage.change(tmp_path / damage.place)
    with pytest.raises(DataError) as caught:
        read(name, tmp_path)
    named = tmp_path / (damage.place if damage.named is None else damage.named)
    assert str(caught.value).startswith(f"{named}: expected {damage.expected}")
    assert ", found " in str(caught.value)
    assert not list(tmp_path.rglob(f"{CACHE}/.*"))
