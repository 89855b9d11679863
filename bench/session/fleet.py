"""One plan on all nodes of a Ray cluster, streamed home launch by launch.

Each node measures an ordinary run in a folder of its own, and what is new in it comes through Ray
after each launch: no file system is shared. Ray is imported here alone, and only when a fleet runs.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from bench.schema.case import Case
from bench.schema.fleet import Node, Told
from bench.schema.launch import LaunchRecord
from bench.schema.plan import Plan
from bench.session import preflight
from bench.session.events import Progress
from bench.session.run import execute
from bench.store.files import scratch
from bench.store.fleet_folder import FleetFolder, news, seed
from fmnist_models.errors import UserError

# Files that only grow; of them only what is new is sent.
_POLL_S, _READY_S = 1.0, 60.0
# Each node of a cluster on one machine takes some 200 MB and ports.
MOST_LOCAL = 16
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Without GPUs of its own, an actor would see none, and its launches neither.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


class FleetProgress(Protocol):
    """Shows the progress of a fleet."""

    def nodes_found(self, nodes: Sequence[Node]) -> None:
        """These nodes are to measure."""

    def node_told(self, node: Node, told: Told) -> None:
        """A node has told of an event."""

    def node_lost(self, node: Node, reason: str) -> None:
        """A node has ended, or cannot be reached; what it measured so far is at home."""


@contextmanager
def cluster(address: str | None, local: int | None) -> Iterator[tuple[Node, ...]]:
    """Within the context, this process is a driver of a cluster; yields its living nodes.

    Args:
        address: `auto`, `HOST:PORT` or `ray://HOST:PORT`; None for nodes on this machine.
        local: the number of nodes that are started on this machine and ended again.

    Raises:
        UserError: Ray is not installed, no cluster is at the address, or it has another version.
    """
    ray = _ray()
    own = None
    try:
        if local is not None:
            own = _started(local)
            address = own.address
        try:
            ray.init(address=address, log_to_driver=False, logging_level="error")
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else "no answer"
            raise UserError(
                f"--address {address}: no cluster can be reached there: {reason}; start one with "
                "ray start --head, or name --local N for nodes on this machine"
            ) from error
        yield _nodes(ray)
    finally:
        ray.shutdown()
        if own is not None:
            own.shutdown()


def measure(folder: FleetFolder, nodes: Sequence[Node], progress: FleetProgress) -> dict[str, str]:
    """Measure the fleet's plan on all nodes at once; returns why a node did not end, by its name.

    What a node has measured is at home after each launch. A node that dies loses the launch under
    way; the others go on.
    """
    ray = _ray()
    progress.nodes_found(nodes)
    under_way: dict[Any, Node] = {}
    failed: dict[str, str] = {}
    for node in nodes:
        actor = _placed(ray, node)
        asked = replace(folder.plan, label=folder.plan.label or node.name)
        told = actor.measure.options(num_returns="streaming").remote(asked, folder.held(node.name))
        under_way[told] = node
    while under_way:
        ready, _ = ray.wait(list(under_way), num_returns=1, timeout=_POLL_S)
        for stream in ready:
            node = under_way[stream]
            try:
                told = ray.get(next(stream))
            except StopIteration:
                del under_way[stream]
                continue
            except ray.exceptions.RayError as error:
                del under_way[stream]
                failed[node.name] = str(error).strip().splitlines()[0]
                progress.node_lost(node, failed[node.name])
                continue
            folder.keep(node.name, told.files)
            if told.event == "refused":
                failed[node.name] = str(told.facts["reason"])
            progress.node_told(node, told)
    return failed


class OnNode:
    """What runs on a node: it measures a plan as `fmnist-bench run` there would."""

    def measure(self, plan: Plan, held: Mapping[str, bytes]) -> Iterator[Told]:
        """Measure what is missing of the plan, and tell of each launch with what is new.

        Args:
            plan: the plan.
            held: the files of the run so far; none for a new run.
        """
        with scratch() as work:
            folder = Path(work) / "run"
            events: queue.SimpleQueue[Told] = queue.SimpleQueue()
            thread = threading.Thread(target=_run, args=(plan, folder, held, events), daemon=True)
            thread.start()
            sent: dict[str, int] = {}
            while True:
                told = events.get()
                yield replace(told, files=news(folder, sent))
                if told.event in ("ends", "refused"):
                    return


class _Telling(Progress):
    """Tells a queue of what happens in a run."""

    def __init__(self, events: queue.SimpleQueue[Told]) -> None:
        self._events = events

    def waits(self, reason: str) -> None:
        """Tell that another run measures on this machine."""
        self._events.put(Told("waits", {"reason": reason}))

    def run_begins(self, plan: Plan, remaining: Sequence[tuple[Case, int]]) -> None:
        """Tell how many launches there are."""
        self._events.put(Told("begins", {"launches": len(remaining)}))

    def launch_begins(self, case: Case, launch: int) -> None:
        """Tell what is measured now."""
        self._events.put(Told("measures", {"case": case.id, "launch": launch}))

    def launch_voided(self, record: LaunchRecord) -> None:
        """Tell that a launch was disturbed."""
        self._events.put(Told("voided", {"case": record.case, "reason": record.reason}))

    def launch_ends(self, record: LaunchRecord) -> None:
        """Tell how a launch ended."""
        facts = {"case": record.case, "status": str(record.status), "reason": record.reason}
        self._events.put(Told("launch", facts))


def _run(
    plan: Plan, folder: Path, held: Mapping[str, bytes], events: queue.SimpleQueue[Told]
) -> None:
    try:
        if held:
            seed(folder, held)
            opening, plan = preflight.resume(folder)
        else:
            opening = preflight.begin(plan, folder)
        outcome = execute(plan, opening, _Telling(events), wait=True)
    except Exception as error:  # noqa: BLE001 - it is told at home, where somebody looks
        events.put(Told("refused", {"reason": str(error) or type(error).__name__}))
        return
    events.put(Told("ends", {"exit_code": int(outcome.exit_code)}))


def _ray() -> Any:
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise UserError('Ray is not installed: pip install ".[fleet]"') from error
    return ray


def _started(count: int) -> Any:
    """A cluster of so many nodes on this machine."""
    from ray.cluster_utils import Cluster

    memory = {"object_store_memory": 80_000_000}
    head = {"num_cpus": 1, "node_name": "local-1", "include_dashboard": False, **memory}
    own = Cluster(initialize_head=True, head_node_args=head)
    for number in range(2, count + 1):
        own.add_node(num_cpus=1, node_name=f"local-{number}", **memory)
    return own


def _nodes(ray: Any) -> tuple[Node, ...]:
    alive = sorted((n for n in ray.nodes() if n["Alive"]), key=lambda n: n["NodeName"])
    names = [n["NodeName"] for n in alive]
    return tuple(
        Node(
            n["NodeName"]
            if names.count(n["NodeName"]) == 1
            else f"{n['NodeName']}-{n['NodeID'][:8]}",
            n["NodeID"],
            n["NodeManagerHostname"],
            int(n["Resources"].get("CPU", 0)),
            int(n["Resources"].get("GPU", 0)),
        )
        for n in alive
    )


def _placed(ray: Any, node: Node) -> Any:
    """An actor that has the whole node for itself.

    Raises:
        UserError: others of the cluster use it.
    """
    from ray.util.placement_group import placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    whole = {"CPU": float(node.cpus)} | ({"GPU": float(node.gpus)} if node.gpus else {})
    group = placement_group([whole], bundle_label_selector=[{"ray.io/node-id": node.node_id}])
    try:
        ray.get(group.ready(), timeout=_READY_S)
    except ray.exceptions.GetTimeoutError as error:
        raise UserError(
            f"node {node.name}: others of the cluster use it (it has {node.cpus} CPUs for Ray); wait "
            "until they have ended, or leave it out"
        ) from error
    where = PlacementGroupSchedulingStrategy(group, 0)
    wanted = {"num_cpus": node.cpus, "num_gpus": node.gpus, "max_restarts": 0}
    return ray.remote(OnNode).options(scheduling_strategy=where, **wanted).remote()
