"""Runs on the nodes of a Ray cluster: each is a task, whose process claims it on its node and trains it in a worker.

Ray places the tasks. A task ends as a local launch of one run does, so claims, checkpoints, retries within a node and
records are those of one machine. When a node is lost, the run is submitted again, and goes on from its checkpoint
elsewhere. Ray's own retries are off: a record has to say how often its run was lost.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bench import ROOT
from bench.launch.cluster import ClusterUnavailable, RayOptions, require_package
from bench.launch.config import LaunchConfig
from bench.launch.local import OnEvent, record_lost
from bench.launch.messages import Event
from bench.launch.ray_node import Attempt, Mailbox, Shared, train_on_node
from bench.launch.ray_session import connected, marked
from bench.launch.run_queue import POLL
from bench.processes.ending import GRACE
from bench.records.claim import holder_of
from bench.records.files import StorageError
from bench.spec.resolve import RunSpec

# Submitted at a time: Ray sees enough to fill its nodes, or to ask for more of them.
MOST_SUBMITTED = 500
# For a task that was cancelled: its worker has GRACE seconds, and then its launcher once more.
_LONGEST_STOP = 3 * GRACE
_LOOKS = (1.0, 2.0, 4.0)  # seconds between looks at the nodes: those that have just joined are not complete


def run_on_ray(specs: Sequence[RunSpec], config: LaunchConfig, options: RayOptions, on_event: OnEvent) -> None:
    """Trains all runs on a cluster, and reports each event as it arrives.

    Raises:
        KeyboardInterrupt: after all tasks have stopped. ClusterUnavailable: there is no cluster, or it is lost.
            StorageError: results can't be written, or a node doesn't share them. Others: as `train_queue`.
    """
    require_package("ray")
    config = _everywhere(config)
    with connected(options.address), marked(config.results) as mark:
        import ray

        driver = _Driver(config, options, Shared(mark, ROOT), on_event)
        try:
            driver.train([_with_absolute_lists(spec) for spec in specs])
        except ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[0]
            raise ClusterUnavailable(
                f"Expected the Ray cluster to go on, found: {type(error).__name__}: {reason} Finished runs are kept; "
                "the same command continues the others."
            ) from error


@dataclass
class _Driver:
    """The tasks of a launch.

    waiting: attempts that are not submitted yet.
    running: the others, by Ray's reference.
    stored: the configuration, which Ray sends to each node once.
    mailbox: for the events of nodes.
    """

    config: LaunchConfig
    options: RayOptions
    shared: Shared
    on_event: OnEvent
    waiting: deque[Attempt] = field(default_factory=deque)
    running: dict[Any, Attempt] = field(default_factory=dict)
    stored: Any = None
    mailbox: Any = None

    def train(self, specs: Sequence[RunSpec]) -> None:
        import ray

        self.waiting.extend(map(Attempt, specs))
        self._note_what_fits_nowhere(specs)
        self.stored = ray.put(self.config)
        self.mailbox = ray.remote(Mailbox).options(num_cpus=0, scheduling_strategy=_beside_driver()).remote()
        try:
            while self.waiting or self.running:
                while self.waiting and len(self.running) < (self.options.jobs or MOST_SUBMITTED):
                    self._submit(self.waiting.popleft())
                ended, _ = ray.wait(list(self.running), num_returns=1, timeout=POLL)
                for event in ray.get(self.mailbox.take.remote()):
                    self._follow(event)
                for reference in ended:
                    self._end(reference)
        finally:
            self._stop()

    def _note_what_fits_nowhere(self, specs: Sequence[RunSpec]) -> None:
        """Says so once for each kind of run that Ray can't place on any node that is there: it waits for one."""
        needs = {repr(found): (found, spec) for spec in specs if (found := self._needs(spec))}
        missing = list(needs.values())
        for pause in (*_LOOKS, 0.0):
            missing = [(found, spec) for found, spec in missing if not _fits_somewhere(found)]
            if not missing:
                return
            time.sleep(pause)
        for found, spec in missing:
            wanted = ", ".join(f"{value:g} {RESOURCES[name]}" for name, value in found.items())
            note = f"no node of the cluster has what this run needs ({wanted}); Ray waits for one that has"
            self.on_event(Event("note", spec, note=note))

    def _needs(self, spec: RunSpec) -> dict[str, float]:
        return resources(spec, self.config, self.options.per_device)

    def _submit(self, attempt: Attempt) -> None:
        import ray

        task = ray.remote(train_on_node).options(max_retries=0, **self._needs(attempt.spec))
        self.running[task.remote(attempt, self.stored, self.shared, self.mailbox)] = attempt

    def _follow(self, event: Event) -> None:
        """Passes on an event of a run that is still running."""
        for reference, attempt in self.running.items():
            if attempt.spec.key == event.spec.key:
                self.running[reference] = replace(attempt, epochs=max(attempt.epochs, event.epochs))
                self.on_event(event)
                return

    def _end(self, reference: Any) -> None:
        """A task has ended: with its run, or because its process or its node was lost."""
        import ray

        attempt = self.running.pop(reference)
        try:
            event: Event = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error  # an error of the suite, with the traceback on the node
        except ray.exceptions.RuntimeEnvSetupError:
            raise
        except ray.exceptions.RayError as error:
            self._lose(attempt, error)
            return
        if event.kind == "storage":
            raise StorageError(event.note)
        self.on_event(event)

    def _lose(self, attempt: Attempt, error: Exception) -> None:
        """Submits a run again whose attempt was lost, or records that it has none left.

        Ray has seen the process die, so its claim is taken over at once, unless it counts up after all.
        """
        spec, gone = attempt.spec, holder_of(self.config.folder(attempt.spec))
        lost = (*attempt.lost, f"after epoch {attempt.epochs}: {_in_words(error)}")
        again = Attempt(spec, lost, gone)
        if len(lost) <= self.config.retries:
            note = (
                f"its process was lost after epoch {attempt.epochs} ({_in_words(error)}); it is tried again, from its "
                "checkpoint"
            )
            self.on_event(Event("note", spec, note=note))
            self.waiting.append(again)
            return
        record = record_lost(spec, lost, self.config, gone)
        if record is None:
            self.waiting.append(again)
        else:
            self.on_event(Event("end", spec, record=record))

    def _stop(self) -> None:
        """Cancels all tasks, and waits until they have stopped; each run keeps its checkpoint."""
        import ray

        for reference in self.running:
            ray.cancel(reference)
        if self.running:
            ray.wait(list(self.running), num_returns=len(self.running), timeout=_LONGEST_STOP)


# What nodes call the resources of a task.
RESOURCES = {"num_cpus": "CPU", "num_gpus": "GPU"}


def resources(spec: RunSpec, config: LaunchConfig, per_device: int) -> dict[str, float]:
    """What a run occupies: its threads, and an accelerator for each process, or its share of one."""
    processes = spec.settings.compute.processes
    needs: dict[str, float] = {"num_cpus": config.threads * processes}
    if config.device != "cpu":
        needs["num_gpus"] = processes if processes > 1 else 1 / per_device
    return needs


def _fits_somewhere(needs: dict[str, float]) -> bool:
    """Whether some node could ever run a task."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    wanted = {RESOURCES[name]: value for name, value in needs.items()}
    return any(all(value <= node.get(name, 0) for name, value in wanted.items()) for node in nodes)


def _everywhere(config: LaunchConfig) -> LaunchConfig:
    """The same on any node: absolute paths, and no number of a device, which Ray chooses."""
    return replace(
        config,
        data={name: folder.absolute() for name, folder in config.data.items()},
        results=config.results.absolute(),
        cache=config.cache.absolute() if config.cache else None,
        device=config.device.partition(":")[0],
    )


def _with_absolute_lists(spec: RunSpec) -> RunSpec:
    return replace(spec, lists=spec.lists.absolute()) if spec.lists else spec


def _beside_driver() -> Any:
    """Places an actor on the node of the driver, whose loss ends the command in any case."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


def _in_words(error: Exception) -> str:
    """What Ray says of a lost task, in a few words."""
    return f"Ray: {type(error).__name__}"
