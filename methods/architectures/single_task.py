"""STL: single-task learning, one encoder and one head for each task."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from methods.architectures.backbones import last_block
from methods.contract import Features, SharedFeatures, TaskFeatures


class SingleTaskNetworks(nn.Module):
    """m networks. Each task reads the features of its own encoder."""

    def __init__(self, encoders: Sequence[nn.Module], heads: Sequence[nn.Module]) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(encoders)
        self.heads = nn.ModuleList(heads)

    def features(self, inputs: Tensor, tasks: Sequence[int]) -> list[TaskFeatures]:
        return [TaskFeatures(self.encoder[task](inputs), None) for task in tasks]

    def features_of_inputs(self, inputs: Sequence[Tensor], tasks: Sequence[Sequence[int]]) -> SharedFeatures:
        by_input = [self.features(images, readers) for images, readers in zip(inputs, tasks, strict=True)]
        return SharedFeatures(by_input)

    def shared_parameters(self) -> list[nn.Parameter]:
        """Those of all encoders, of which each task has its own."""
        return list(self.encoder.parameters())

    def last_block_parameters(self) -> list[nn.Parameter]:
        return [parameter for encoder in self.encoder for parameter in last_block(encoder).parameters()]

    def positions(self) -> Tensor | None:
        return None

    def position_parameters(self) -> list[nn.Parameter]:
        return []

    def translate_errors(self) -> AbstractContextManager[None]:
        return nullcontext()


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
