"""What training changes: a network with its optimizers, and the state of its weighting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from bench.engine.factored_layers import Layer, factorable_layers
from bench.engine.graphs import GraphedLosses
from bench.engine.parallel import ALONE, DataParallel
from bench.engine.seeds import generator_for
from bench.engine.task_gradients import GradientBuffer
from bench.spec.further_weights import head_rule_of
from bench.spec.resolve import RunSpec
from bench.spec.settings import GramianSettings, Precision, Settings
from datasets.contract import Task
from methods.contract import HeadRule, Network, State, Update, Weighting
from methods.transfer import send


@dataclass
class TrainState:
    """A network in training.

    tasks: those of the network's heads, in order.
    shared_parameters: all that tasks share.
    gramian_parameters: those whose gradients form the Gramian.
    factorable: layers whose gradients may stay factored.
    weighting_state: what the weighting carries from step to step.
    head_rule: how gradients of the heads are weighted.
    optimizers: "network"; "positions" if the architecture learns task positions.
    generator: the random stream of the weighting.
    buffer: memory for per-task gradients.
    second_buffer: the same for those of a second batch.
    graphed: the losses by CUDA graphs, if chosen and the network is on CUDA.
    gramian_settings, precision, batched, micro_batches, clip_norm: settings of a step.
    alternating: positions move after the network instead of jointly with it.
    parallel: the processes that train this network together.
    cached_weights: the last "weights" and "head_weights", if a later step reads them.
    solver_fallbacks: the sum of `Update.fallbacks` over all logged steps.
    """

    network: Network
    tasks: Sequence[Task]
    shared_parameters: Sequence[nn.Parameter]
    gramian_parameters: Sequence[nn.Parameter]
    factorable: Sequence[Layer]
    weighting: Weighting
    weighting_state: State
    head_rule: HeadRule
    optimizers: dict[str, Optimizer]
    generator: torch.Generator
    buffer: GradientBuffer
    second_buffer: GradientBuffer
    graphed: GraphedLosses | None
    gramian_settings: GramianSettings
    precision: Precision
    batched: bool
    micro_batches: int
    clip_norm: float
    alternating: bool
    parallel: DataParallel = ALONE
    cached_weights: Mapping[str, Tensor] = field(default_factory=dict)
    solver_fallbacks: int = 0

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return self.shared_parameters[0].device

    @property
    def weighting_device(self) -> torch.device:
        """Where the weighting computes: on the device of its largest input."""
        return self.device if self.weighting.needs in ("losses", "jacobian") else torch.device("cpu")

    @property
    def moves_positions_jointly(self) -> bool:
        """Whether positions move by the same gradients as the network."""
        return "positions" in self.optimizers and not self.alternating


def make_train_state(
    spec: RunSpec,
    network: Network,
    tasks: Sequence[Task] | None = None,
    buffer: GradientBuffer | None = None,
    parallel: DataParallel = ALONE,
) -> TrainState:
    """A network with new optimizers: Adam for it, the architecture's choice for positions.

    tasks: those of the network's heads; by default those of the data set.
    buffer: memory shared with other states, of which one steps at a time; by default a new one.
    parallel: the processes that train this network together; by default this one alone.
    """
    tasks = spec.info.tasks if tasks is None else tasks
    settings = spec.settings
    shared = network.shared_parameters()
    observed = network.last_block_parameters() if settings.gramian.grad_space == "last_block" else shared
    optimizers = _optimizers(spec, network)
    rule = settings.arch.position_rule
    state = TrainState(
        network=network,
        tasks=tasks,
        shared_parameters=shared,
        gramian_parameters=observed,
        factorable=factorable_layers(network, observed) if _may_factor(spec) else (),
        weighting=settings.weighting,
        weighting_state=settings.weighting.init(len(tasks)),
        head_rule=head_rule_of(settings),
        optimizers=optimizers,
        generator=generator_for(spec.seed, "method"),
        buffer=GradientBuffer(len(tasks)) if buffer is None else buffer,
        second_buffer=GradientBuffer(len(tasks)),
        graphed=GraphedLosses(network, tasks, settings.compute.precision) if _uses_graphs(settings, shared) else None,
        gramian_settings=settings.gramian,
        precision=settings.compute.precision,
        batched=settings.compute.backward == "batched",
        micro_batches=settings.train.accumulate,
        clip_norm=settings.train.clip_norm,
        alternating="positions" in optimizers and rule is not None and rule.alternating,
        parallel=parallel,
    )
    state.weighting_state = on_device_of_weighting(state, state.weighting_state.memory)
    return state


def on_device_of_weighting(state: TrainState, memory: Mapping[str, Tensor]) -> State:
    """The state of a weighting, where the weighting computes."""
    return State({name: send(values, state.weighting_device) for name, values in memory.items()})


def _optimizers(spec: RunSpec, network: Network) -> dict[str, Optimizer]:
    train, rule = spec.settings.train, spec.settings.arch.position_rule
    parameters = [*network.shared_parameters(), *network.heads.parameters()]
    optimizers: dict[str, Optimizer] = {
        "network": Adam(parameters, lr=train.lr, weight_decay=train.weight_decay, fused=True)
    }
    positions = network.position_parameters()
    if positions and rule is not None and rule.lr_ratio:
        make = {"plain": SGD, "adam": Adam}[rule.optimizer]
        optimizers["positions"] = make(positions, lr=train.lr * rule.lr_ratio)
    return optimizers


def _uses_graphs(settings: Settings, parameters: Sequence[nn.Parameter]) -> bool:
    return settings.compute.cuda_graphs and parameters[0].device.type == "cuda"


def _may_factor(spec: RunSpec) -> bool:
    """Whether the gradients of all images of a batch are found in one backward pass of this process.

    Factoring is off without a Gramian of one batch, if the encoder is compiled, with micro-batches, and if several
    processes train the run.
    """
    settings = spec.settings
    in_one = settings.train.accumulate == settings.compute.processes == 1
    return settings.weighting.needs == "gramian" and not settings.compute.compile and in_one


def commit(state: TrainState, update: Update) -> None:
    """Stores what an update leaves for the next step: the weighting's state, and weights that are read again."""
    state.weighting_state = update.state
    if state.gramian_settings.every > 1 or state.gramian_settings.momentum:
        weights = {"weights": update.weights, "head_weights": update.head_weights}
        state.cached_weights = {name: found for name, found in weights.items() if found is not None}
