"""HPS with as many extra parameters as NORMAL's block has: the control for the flow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from torch import Tensor, nn

from methods.architectures.flow import two_layers
from methods.architectures.hps import HardSharingNetwork
from methods.checks import require_one_of
from methods.contract import Features

Place = Literal["shared", "residual", "specific"]


class ResidualLayers(nn.Module):
    """z + layers(z)."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, z: Tensor) -> Tensor:
        moved: Tensor = z + self.layers(z)
        return moved


def hidden_widths(features: Features, n_tasks: int) -> list[int]:
    """The width of each task's hidden layer, so that all tasks together have as many parameters as NORMAL's block.

    The block has four layers of n² + n; a task's two layers of hidden width w have 2nw + w + n. If units don't
    divide evenly, the first tasks get one more each.
    """
    n = features.channels
    units = round((4 * (n**2 + n) - n_tasks * n) / (2 * n + 1))
    return [max(units // n_tasks + (task < units % n_tasks), 1) for task in range(n_tasks)]


def _task_layers(features: Features, hidden: int) -> nn.Sequential:
    n = features.channels
    if features.dense:
        return nn.Sequential(nn.Conv2d(n, hidden, 1), nn.LeakyReLU(), nn.Conv2d(hidden, n, 1), nn.LeakyReLU())
    return nn.Sequential(nn.Linear(n, hidden), nn.LeakyReLU(), nn.Linear(hidden, n), nn.LeakyReLU())


@dataclass(frozen=True)
class ExtraLayers:
    """Hard parameter sharing with extra layers between encoder and heads (Ye et al., IJCAI 2023, §5.5).

    place: "shared" puts two pairs of layers like those of u and g after the encoder; "residual" the same as two
    residual blocks; "specific" a pair of layers, narrower inside, before each head. All have as many parameters
    as NORMAL's block, except for ω and the positions. The paper doesn't describe its layers.
    """

    place: Place = "shared"

    position_rule: ClassVar[None] = None
    shares_features: ClassVar[bool] = True
    shares_parameters: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_one_of("place", self.place, get_args(Place))

    def check(self, tasks: Sequence[str]) -> None:
        del tasks

    def build(
        self, encoder: nn.Module, heads: Sequence[nn.Module], features: Features, tasks: Sequence[str]
    ) -> HardSharingNetwork:
        if self.place == "specific":
            widths = hidden_widths(features, len(tasks))
            own = [nn.Sequential(_task_layers(features, w), head) for w, head in zip(widths, heads, strict=True)]
            return HardSharingNetwork(encoder, own)
        first, second = two_layers(features), two_layers(features)
        if self.place == "residual":
            return HardSharingNetwork(nn.Sequential(encoder, ResidualLayers(first), ResidualLayers(second)), heads)
        added = nn.Sequential(first, nn.LeakyReLU(), second, nn.LeakyReLU())
        return HardSharingNetwork(nn.Sequential(encoder, added), heads)
