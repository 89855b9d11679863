"""One plan on all nodes of a Ray cluster, streamed home launch by launch.

Each node measures an ordinary run in a folder of its own, and what is new in it comes through Ray
after each launch: no file system is shared. Ray is imported here alone, and only when a fleet runs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol

from bench.schema.fleet import Node, Told
from bench.session.fleet.on_node import OnNode
from bench.store.fleet_folder import FleetFolder
from fmnist_models.errors import UserError

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

    memory: dict[str, Any] = {"object_store_memory": 80_000_000}
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
            f"node {node.name}: others of the cluster use it (it has {node.cpus} CPUs for Ray); "
            "wait until they have ended, or leave it out"
        ) from error
    where = PlacementGroupSchedulingStrategy(group, 0)
    wanted = {"num_cpus": node.cpus, "num_gpus": node.gpus, "max_restarts": 0}
    return ray.remote(OnNode).options(scheduling_strategy=where, **wanted).remote()
