"""How a class of TorchJD takes a step under our contract: made, put into its state, asked, and its state kept."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, TypeVar

import torch
from torch import Tensor

from methods.adapters.bridge import drawing_from, import_peer, nearest_weights, translate_peer_errors, try_once
from methods.contract import Needs, Signal, State, Update

_Class = TypeVar("_Class")
_Memory = Mapping[str, Tensor]
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def _make(weighting: Any, n_tasks: int, like: Tensor) -> Any:
    """TorchJD's object. Vectors take the type of `like`; empty ones are 1/m for `weights` and left out elsewhere."""
    module = import_peer(f"torchjd.{weighting.module}", "TorchJD")
    options: dict[str, Any] = {weighting.size: n_tasks} if weighting.size else {}
    for field in fields(weighting):
        value = getattr(weighting, field.name)
        if isinstance(value, tuple):
            if not value and field.name != "weights":
                continue
            value = torch.tensor(value or (1 / n_tasks,) * n_tasks).to(like)
        if field.name == "inner":
            options["weighting"] = getattr(module, f"{value}Weighting")()
        elif field.name != "lr" or weighting.passes_lr:
            options[field.name] = value
    made = getattr(module, weighting.peer)(**options)
    if not weighting.weighs or weighting.peer.endswith("Weighting"):
        return made
    return getattr(made, "gramian_weighting", made.weighting)


@functools.lru_cache(maxsize=64)
def _kept(weighting: Any, n_tasks: int, dtype: torch.dtype, device: torch.device) -> Any:
    return _make(weighting, n_tasks, torch.empty((), dtype=dtype, device=device))


def _stat(weighting: Any, signal: Signal) -> Tensor:
    if weighting.needs == "losses":
        return signal.losses.unsqueeze(1)
    return signal.required_gramian() if weighting.needs == "gramian" else signal.required_jacobian()


def _restore(peer: Any, weighting: Any, stat: Tensor, memory: _Memory) -> None:
    """Puts what `_remember` took back into the object, or makes it as new."""
    if not weighting.keeps:
        return
    if weighting.peer == "NashMTL" and memory:
        peer.step, peer.prvs_alpha = float(memory["step"]), memory["prvs_alpha"].clone().numpy()
        if peer.prvs_alpha_param is None:
            peer._init_optim_problem()
        return
    peer.reset()
    if not memory:
        return
    if hasattr(peer, "_state_key"):
        keys = {"GradVac": (len(stat), stat.dtype), "PCD": (len(stat),)}
        peer._ensure_state(*keys.get(weighting.peer, (stat,)))
    for name in weighting.keeps & set(memory):
        whole = isinstance(getattr(peer, name), int)
        setattr(peer, name, int(memory[name]) if whole else memory[name].clone().to(stat.device))


def _remember(peer: Any, weighting: Any) -> dict[str, Tensor]:
    kept = {name: getattr(peer, name) for name in weighting.keeps}
    return {name: torch.as_tensor(value).detach().clone() for name, value in kept.items() if value is not None}


def aggregate(weighting: Any, signal: Signal, state: State) -> Update:
    """The aggregator's weights, or its direction.

    Raises:
        PeerFailed: TorchJD raised an error.
    """
    stat = _stat(weighting, signal)
    with translate_peer_errors(f"TorchJD's {weighting.peer}", f"step {signal.step}"):
        peer = _kept(weighting, len(stat), stat.dtype, stat.device)
        _restore(peer, weighting, stat, state.memory)
        with drawing_from(signal.generator, stat.device):
            answer = peer(stat).detach()
        state = State(memory=_remember(peer, weighting))
    if weighting.weighs:
        return Update(answer.double().cpu(), state)
    return Update(nearest_weights(signal.required_gramian(), stat, answer), state, direction=answer)


def scalarise(weighting: Any, signal: Signal, state: State) -> Update:
    """The gradient of the scalarizer in the losses and in what it learns.

    Raises:
        PeerFailed: TorchJD raised an error.
    """
    losses = signal.losses.clone().requires_grad_()
    with translate_peer_errors(f"TorchJD's {weighting.peer}", f"step {signal.step}"), torch.enable_grad():
        peer = _make(weighting, len(losses), losses).double()
        memory = _REPLAY[weighting.peer](peer, signal, state.memory) if weighting.peer in _REPLAY else {}
        parameters = [getattr(peer, name) for name in state.learned]
        for parameter, learned in zip(parameters, state.learned.values(), strict=True):
            parameter.data.copy_(learned.detach())
        with drawing_from(signal.generator, losses.device):
            scalar = peer(losses)
        weights, *slopes = torch.autograd.grad(scalar, [losses, *parameters])
    auxiliary = None
    if slopes:
        auxiliary = sum((slope * x).sum() for slope, x in zip(slopes, state.learned.values(), strict=True))
    return Update(weights, State(state.learned, memory), auxiliary=auxiliary)  # type: ignore[arg-type]


def _replay_dwa(peer: Any, signal: Signal, memory: _Memory) -> dict[str, Tensor]:
    """DWA's sums of the present epoch and its averages of the last two."""
    if memory:
        peer._loss_sum, peer._n_batches = memory["loss_sum"], int(memory["batches"])
        peer._previous_averages = list(memory["averages"])
        if int(memory["epoch"]) != signal.epoch:
            peer.step()
    averages = peer._previous_averages
    earlier = peer._loss_sum if peer._loss_sum is not None else torch.zeros_like(signal.losses)
    return {
        "loss_sum": earlier + signal.losses,
        "batches": torch.tensor(peer._n_batches + 1),
        "averages": torch.stack(averages) if averages else signal.losses.new_zeros(0, len(signal.losses)),
        "epoch": torch.tensor(signal.epoch),
    }


def _restore_famo(peer: Any, memory: _Memory) -> None:
    peer._w.data.copy_(memory["logits"])
    peer._prev_losses = memory["losses"]
    peer._optimizer = torch.optim.Adam([peer._w], lr=peer.lr, weight_decay=peer.weight_decay)
    if "step" in memory:
        peer._optimizer.state[peer._w] = {name: memory[name].clone() for name in _MOMENTS}


def _replay_famo(peer: Any, signal: Signal, memory: _Memory) -> dict[str, Tensor]:
    """FAMO's logits and the moments of its Adam."""
    if memory:
        _restore_famo(peer, memory)
    return {"logits": peer._w.detach().clone(), **memory, "losses": signal.losses.clone()}


def look_back(weighting: Any, losses: Tensor, state: State) -> State:
    """FAMO's `update`, with the losses after the step.

    Raises:
        PeerFailed: TorchJD raised an error.
    """
    with translate_peer_errors(f"TorchJD's {weighting.peer}", "the end of a step"):
        peer = _make(weighting, len(losses), losses).double()
        _restore_famo(peer, state.memory)
        peer.update(losses)
    moments = {name: peer._optimizer.state[peer._w][name].clone() for name in _MOMENTS}
    return State(memory={"logits": peer._w.detach().clone(), "losses": losses.clone(), **moments})


_REPLAY: Mapping[str, Callable[[Any, Signal, _Memory], dict[str, Tensor]]] = {"DWA": _replay_dwa, "FAMO": _replay_famo}


def start(weighting: Any, n_tasks: int) -> State:
    """The state before the first step; the weighting is tried once.

    Raises:
        PeerUnavailable: TorchJD or a package that this weighting needs isn't installed, or it can't do with these
            options or so many tasks.
    """
    import_peer("torchjd", "TorchJD")
    learned = {}
    if weighting.learned_lr is not None:
        peer = _make(weighting, n_tasks, torch.empty((), dtype=torch.float64)).double()
        learned = {name: p.detach().clone().requires_grad_() for name, p in peer.named_parameters()}
    state = State(learned=learned)
    try_once(weighting.step, state, n_tasks)
    return state


def adapts(
    peer: str,
    needs: Needs,
    keeps: frozenset[str] = frozenset(),
    weighs: bool = True,
    size: str | None = None,
    scalarizer: bool = False,
    learns: bool = False,
    post_step_hook: bool = False,
) -> Callable[[type[_Class]], type[_Class]]:
    """Gives a dataclass of options the members of a `Weighting`, driven by TorchJD's class `peer`.

    keeps: the attributes that make up its state. weighs: whether it gives weights rather than a direction.
    size: the argument that takes the number of tasks. learns: whether it has parameters for an optimizer of ours.
    post_step_hook: whether it wants the same batch's losses again after the step.
    """

    def complete(options: type[_Class]) -> type[_Class]:
        members: dict[str, Any] = {
            "peer": peer,
            "module": "scalarization" if scalarizer else "aggregation",
            "needs": needs,
            "heads": "weighted" if scalarizer else "plain",
            "keeps": keeps,
            "weighs": weighs and not scalarizer,
            "size": size,
            "passes_lr": not learns,
            "learned_lr": property(lambda self: self.lr if learns else None),
            "init": start,
            "step": scalarise if scalarizer else aggregate,
            **({"post_step": look_back} if post_step_hook else {}),
        }
        for name, member in members.items():
            setattr(options, name, member)
        return options

    return complete
