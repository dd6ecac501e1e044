"""HPS: hard parameter sharing, one encoder for all tasks and one head per task."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from methods.architectures.backbones import last_block
from methods.contract import Features, SharedFeatures, TaskFeatures


class HardSharingNetwork(nn.Module):
    """All heads read the encoder's features."""

    def __init__(self, encoder: nn.Module, heads: Sequence[nn.Module]) -> None:
        super().__init__()
        self.encoder = encoder
        self.heads = nn.ModuleList(heads)

    def features(self, inputs: Tensor, tasks: Sequence[int]) -> list[TaskFeatures]:
        z = self.encoder(inputs)
        return [TaskFeatures(z, None) for _ in tasks]

    def features_of_inputs(self, inputs: Sequence[Tensor], tasks: Sequence[Sequence[int]]) -> SharedFeatures:
        by_input = [self.features(images, readers) for images, readers in zip(inputs, tasks, strict=True)]
        return SharedFeatures(by_input)

    def shared_parameters(self) -> list[nn.Parameter]:
        return list(self.encoder.parameters())

    def last_block_parameters(self) -> list[nn.Parameter]:
        return list(last_block(self.encoder).parameters())

    def positions(self) -> Tensor | None:
        return None

    def position_parameters(self) -> list[nn.Parameter]:
        return []

    def translate_errors(self) -> AbstractContextManager[None]:
        return nullcontext()


@dataclass(frozen=True)
class HPS:
    """Hard parameter sharing has no hyper-parameters."""

    position_rule: ClassVar[None] = None
    shares_features: ClassVar[bool] = True
    shares_parameters: ClassVar[bool] = True

    def check(self, tasks: Sequence[str]) -> None:
        del tasks

    def build(
        self, encoder: nn.Module, heads: Sequence[nn.Module], features: Features, tasks: Sequence[str]
    ) -> HardSharingNetwork:
        del features, tasks
        return HardSharingNetwork(encoder, heads)
