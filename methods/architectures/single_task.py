"""STL: single-task learning, one encoder and one head for each task."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from methods.architectures.backbones import last_block
from methods.architectures.hps import HardSharingNetwork
from methods.contract import Features, TaskFeatures


class SingleTaskNetworks(HardSharingNetwork):
    """m networks: each task reads the features of its own encoder. The shared parameters are those of all encoders."""

    def __init__(self, encoders: Sequence[nn.Module], heads: Sequence[nn.Module]) -> None:
        self.encoder: nn.ModuleList
        super().__init__(nn.ModuleList(encoders), heads)

    def features(self, inputs: Tensor, tasks: Sequence[int]) -> list[TaskFeatures]:
        return [TaskFeatures(self.encoder[task](inputs), None) for task in tasks]

    def last_block_parameters(self) -> list[nn.Parameter]:
        return [parameter for encoder in self.encoder for parameter in last_block(encoder).parameters()]


@dataclass(frozen=True)
class STL:
    """Single-task learning has no hyper-parameters.

    All encoders start from the same weights, those of the one encoder of HPS. The gradient of the sum of the losses in
    the parameters of one network is that of its task's loss, and Adam treats each parameter by itself, so that one run
    trains m networks as m runs would.
    """

    position_rule: ClassVar[None] = None
    shares_features: ClassVar[bool] = False
    shares_parameters: ClassVar[bool] = False

    def check(self, tasks: Sequence[str]) -> None:
        del tasks

    def build(
        self, encoder: nn.Module, heads: Sequence[nn.Module], features: Features, tasks: Sequence[str]
    ) -> SingleTaskNetworks:
        del features
        return SingleTaskNetworks([encoder, *(copy.deepcopy(encoder) for _ in tasks[1:])], heads)
