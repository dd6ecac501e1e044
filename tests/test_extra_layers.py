"""HPS with further layers: as many parameters as NORMAL's block, in three places."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from methods.architectures.extra_layers import ExtraLayers, Place
from methods.architectures.heads import linear_head
from methods.architectures.hps import HPS
from methods.architectures.normal import Normal
from methods.contract import Architecture, Features, Network

SIZES = [(64, 4), (64, 3), (256, 40), (512, 3), (512, 4), (512, 40)]


def built(architecture: Architecture, features: Features, m: int) -> Network:
    torch.manual_seed(0)
    heads = [linear_head(features, 2) for _ in range(m)]
    return architecture.build(nn.Identity(), heads, features, [f"task {task}" for task in range(m)])


def size(network: Network) -> int:
    return sum(p.numel() for p in [*network.shared_parameters(), *network.heads.parameters()])


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize(("n", "m"), SIZES)
@pytest.mark.parametrize("place", ["shared", "residual", "specific"])
def test_parameters_match_those_of_the_block_within_two_per_cent(place: Place, n: int, m: int, dense: bool) -> None:
    features = Features(channels=n, dense=dense, stride=1)
    plain = size(built(HPS(), features, m))
    block = size(built(Normal(), features, m)) - plain
    assert size(built(ExtraLayers(place), features, m)) - plain == pytest.approx(block, rel=0.02)


def test_specific_layers_are_each_tasks_own_and_the_others_shared() -> None:
    features = Features(channels=8, dense=False, stride=1)
    shared, specific = built(ExtraLayers("shared"), features, 3), built(ExtraLayers("specific"), features, 3)
    assert not specific.shared_parameters() and len(shared.shared_parameters()) == 8
    assert len(list(specific.heads[0].parameters())) == 6 and len(list(shared.heads[0].parameters())) == 2


def test_residual_blocks_of_zeros_change_nothing() -> None:
    features = Features(channels=8, dense=False, stride=1)
    network, x = built(ExtraLayers("residual"), features, 2), torch.randn(5, 8)
    assert not torch.equal(network.features(x, [0])[0].z, x)
    with torch.no_grad():
        for parameter in network.shared_parameters():
            parameter.zero_()
    assert torch.equal(network.features(x, [0])[0].z, x)
