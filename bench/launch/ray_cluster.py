"""Runs on the nodes of a Ray cluster: each is a task, whose process claims it on its node and trains it in a worker.

Ray places the tasks. A task ends as a local launch of one run does, so claims, checkpoints, retries within a node and
records are those of one machine. When a node is lost, the run is submitted again, and goes on from its checkpoint
elsewhere. Ray's own retries are off: a record has to say how often its run was lost.
"""

from __future__ import annotations

import logging
import os
import socket
import tempfile
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench import ROOT
from bench.launch.cluster import ClusterUnavailable, RayOptions, require_package
from bench.launch.config import LaunchConfig
from bench.launch.local import OnEvent, record_lost
from bench.launch.messages import Event
from bench.launch.processes import GRACE
from bench.launch.ray_node import Attempt, Mailbox, Shared, train_on_node
from bench.launch.run_queue import POLL
from bench.records.claim import holder_of
from bench.records.files import StorageError, atomic_write_text
from bench.spec.resolve import RunSpec

# Submitted at a time: Ray sees enough to fill its nodes, or to ask for more of them.
MOST_SUBMITTED = 500
# For a task that was cancelled: its worker has GRACE seconds, and then its launcher once more.
_LONGEST_STOP = 3 * GRACE
_LONGEST_ANSWER = 5.0


def run_on_ray(specs: Sequence[RunSpec], config: LaunchConfig, options: RayOptions, on_event: OnEvent) -> None:
    """Trains all runs on a cluster, and reports each event as it arrives.

    Raises:
        KeyboardInterrupt: after all tasks have stopped. ClusterUnavailable: there is no cluster, or it is lost.
            StorageError: results can't be written, or a node doesn't share them. Others: as `train_queue`.
    """
    require_package("ray")
    config = _everywhere(config)
    with _connected(options.address), _mark(config.results) as mark:
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


@contextmanager
def _connected(address: str) -> Iterator[None]:
    """A session with a cluster; one that starts here has its files in a private folder, and ends with the command."""
    elsewhere = address or os.environ.get("RAY_ADDRESS", "")
    if elsewhere:
        _require_cluster(elsewhere)
    import ray

    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as private:
        here: dict[str, Any] = {"_temp_dir": private, "include_dashboard": False}
        where: dict[str, Any] = {"address": elsewhere} if elsewhere else here
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            ray.init(log_to_driver=False, logging_level=logging.ERROR, runtime_env=_environment(), **where)
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
            place = f"at {elsewhere}" if elsewhere else "on this machine"
            raise ClusterUnavailable(f"Expected a Ray cluster {place}, found: {reason}") from error
        try:
            yield
        finally:
            ray.shutdown()


def _environment() -> dict[str, Any]:
    """Of processes on nodes: they import this checkout, whatever is installed there."""
    paths = [str(ROOT), *([os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else [])]
    return {"env_vars": {"PYTHONPATH": os.pathsep.join(paths)}}


def _require_cluster(address: str) -> None:
    """Raises ClusterUnavailable unless something answers there: Ray itself asks for minutes."""
    if address.startswith("ray://"):
        raise ClusterUnavailable(
            f"--address: expected the address of a cluster that this machine belongs to, found {address}; run the "
            "command on one of its nodes."
        )
    host, colon, port = address.rpartition(":")
    if not colon:  # "auto" or "local"
        return
    try:
        socket.create_connection((host, int(port)), _LONGEST_ANSWER).close()
    except (OSError, ValueError, OverflowError) as error:
        raise ClusterUnavailable(
            f"Expected a Ray cluster at {address}, found: {error}; `ray status` says on its machines where it is."
        ) from error


@contextmanager
def _mark(results: Path) -> Iterator[Path]:
    """A file by which a node sees that its folder of results is this one. Its name is new, so that no cache has it."""
    path = results / f".launch-{uuid.uuid4().hex}"
    atomic_write_text(path, "A running command; see docs/scale.md.\n")
    try:
        yield path
    finally:
        with suppress(OSError):
            path.unlink()


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
        import ray

        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        said: list[dict[str, float]] = []
        for spec in specs:
            needs = resources(spec, self.config, self.options.per_device)
            if needs not in said and not any(_fits(needs, node) for node in nodes):
                said.append(needs)
                wanted = ", ".join(f"{value:g} {name.removeprefix('num_').upper()}" for name, value in needs.items())
                note = f"no node of the cluster has what this run needs ({wanted}); Ray waits for one that has"
                self.on_event(Event("note", spec, note=note))

    def _submit(self, attempt: Attempt) -> None:
        import ray

        needs = resources(attempt.spec, self.config, self.options.per_device)
        task = ray.remote(train_on_node).options(max_retries=0, **needs)
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


def resources(spec: RunSpec, config: LaunchConfig, per_device: int) -> dict[str, float]:
    """What a run occupies: its threads, and an accelerator for each process, or its share of one."""
    processes = spec.settings.compute.processes
    needs: dict[str, float] = {"num_cpus": config.threads * processes}
    if config.device != "cpu":
        needs["num_gpus"] = processes if processes > 1 else 1 / per_device
    return needs


def _fits(needs: dict[str, float], node: dict[str, float]) -> bool:
    """Whether a node could ever run a task."""
    return all(value <= node.get(name.removeprefix("num_").upper(), 0) for name, value in needs.items())


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
