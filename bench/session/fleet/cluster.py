"""A Ray cluster as a fleet needs it: its nodes, and one process that has each for itself.

Ray is imported in this package alone, and only when a fleet runs.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import os
import secrets
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.machine.loaded import CHECKOUT, SUITE_PACKAGES
from bench.schema.fleet import Node
from bench.session.fleet.on_node import OnNode
from fmnist_models.errors import UserError

# Each node of a cluster on one machine takes some 200 MB and ports.
MOST_LOCAL = 16
_LOCAL_MEMORY_BYTES = 80_000_000
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Without GPUs of its own, a process would see none, and its launches neither.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
# Ray lets what it starts give way to all other work (niceness 15).
_OF_LOCAL = {"RAY_worker_niceness": "0"}
# What a user's working folder holds beside the models.
_NOT_SENT = [
    ".git",
    ".venv",
    "venv",
    "results",
    "__pycache__",
    ".tox",
    "docs",
    "tests",
    "*.egg-info",
]
_PROBE_S, _CONNECT_S = 60.0, 10.0
_FORM = "must be auto, HOST:PORT or ray://HOST:PORT"


class NodeLost(Exception):
    """A node, or the process on it, has ended."""


class NodeAway(Exception):
    """A node cannot be reached now; whether it has heard the question is not known."""


class Cluster:
    """A cluster that this process is a driver of.

    Args:
        ray: the module.

    Attributes:
        sent: names of nodes on which the suite is not installed, so that this one was sent to all.
    """

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self.sent: tuple[str, ...] = ()

    def told_of_sent(self) -> str:
        """A line that says to which nodes the suite was sent."""
        return (
            f"{', '.join(self.sent)}: fmnist-bench is not installed there, so this one was sent to "
            "all nodes"
        )

    def nodes(self) -> list[Node]:
        """The living nodes that have processors for Ray, by name; several may have one name."""
        alive = [n for n in self._ray.nodes() if n["Alive"] and n["Resources"].get("CPU", 0) >= 1]
        return [
            Node(
                _name(n),
                n["NodeID"],
                n["NodeManagerAddress"],
                *(int(n["Resources"].get(kind, 0)) for kind in ("CPU", "GPU")),
            )
            for n in sorted(alive, key=lambda n: (_name(n), n["NodeID"]))
        ]

    def place(
        self, node: Node, kind: type = OnNode, *arguments: Any, calls_at_once: int = 1
    ) -> Any:
        """A process that will have the whole node for itself, once nobody else uses it.

        It waits where others of the cluster do; `ask` returns at once.

        Args:
            node: the node.
            kind: the class of what runs in the process.
            arguments: what that is made of.
            calls_at_once: how many questions it answers at the same time.
        """
        from ray.util.placement_group import placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        whole = {"CPU": float(node.cpus)} | ({"GPU": float(node.gpus)} if node.gpus else {})
        here = {"ray.io/node-id": node.node_id}
        group = placement_group([whole], bundle_label_selector=[here])
        wanted = {"num_cpus": node.cpus, "num_gpus": node.gpus, "max_restarts": 0}
        if calls_at_once > 1:
            wanted["max_concurrency"] = calls_at_once
        where = PlacementGroupSchedulingStrategy(group, 0)
        placed = self._ray.remote(kind).options(scheduling_strategy=where, **wanted)
        return placed.remote(*arguments)

    def ask(self, process: Any, question: str, *words: Any, **named: Any) -> Any:
        """Ask the process on a node; returns what `answer` takes."""
        return getattr(process, question).remote(*words, **named)

    def answered(self, asked: Sequence[Any], limit_s: float | None) -> list[Any]:
        """Those that have an answer, or none any more, once there is one, or after the limit."""
        if not asked:
            return []
        return list(self._ray.wait(list(asked), num_returns=1, timeout=limit_s)[0])

    def answer(self, asked: Any) -> Any:
        """The answer of a node.

        Raises:
            NodeLost: the node or the process has ended.
            NodeAway: it cannot be reached now.
            UserError: that is the answer.
        """
        errors = self._ray.exceptions
        try:
            return self._ray.get(asked)
        except errors.ActorUnavailableError as error:
            raise NodeAway from error
        except errors.RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise error.cause from None
            raise NodeLost(_last_line(error)) from error
        except errors.ActorDiedError as error:
            began = "creation task" not in str(error)
            reason = "its process there has ended" if began else _last_line(error)
            raise NodeLost(reason) from error
        except errors.RayError as error:
            raise NodeLost(f"Ray lost it: {_last_line(error)}") from error

    def end(self, process: Any) -> None:
        """End the process on a node, with the launch under way there."""
        self._ray.kill(process)

    def lacking(self, nodes: Sequence[Node]) -> list[str]:
        """The names of nodes on which the suite is not installed."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        # Functions of a module are sent by name, which such a node does not know.
        def is_there(name: str) -> bool:
            """Whether a package of that name can be imported."""
            from importlib.util import find_spec

            return find_spec(name) is not None

        asked = {}
        for node in nodes:
            where = NodeAffinitySchedulingStrategy(node.node_id, soft=False)
            task = self._ray.remote(is_there).options(num_cpus=0, scheduling_strategy=where)
            asked[node.name] = task.remote(SUITE_PACKAGES[0])
        found = []
        for name, task in asked.items():
            try:
                if not self._ray.get(task, timeout=_PROBE_S):
                    found.append(name)
            except self._ray.exceptions.RayError:
                # It is told when the node is asked for its facts.
                continue
        return found


class _Unheard(io.TextIOBase):
    """Takes what Ray prints: of each daemon that ends, the last lines of its log."""

    def write(self, text: str) -> int:
        """Forget the text, which Ray's own logs hold too."""
        return len(text)


@contextlib.contextmanager
def cluster(address: str | None, local: int | None, own: bool = False) -> Iterator[Cluster]:
    """Within the context, this process is a driver of a cluster.

    Where a node does not have the suite, this one is sent to all nodes. What Ray prints is not
    shown: who wants to be read there must hold the standard output from before.

    Args:
        address: `auto`, `HOST:PORT` or `ray://HOST:PORT`; None for nodes on this machine.
        local: the number of nodes that are started on this machine and ended again.
        own: send the working folder, which holds the user's own models.

    Raises:
        UserError: Ray is not installed, no cluster is at the address, or it has another version.
    """
    if local is not None:
        _closed()
    ray = _ray()
    with contextlib.ExitStack() as ends:
        ends.enter_context(contextlib.redirect_stdout(_Unheard()))
        if local is not None:
            started = _started(ray, local)
            ends.callback(started.shutdown)
            address = started.address
        ends.callback(ray.shutdown)
        sent: dict[str, Any] = {}
        if own:
            sent = {"working_dir": str(Path.cwd()), "excludes": _NOT_SENT}
        _connect(ray, address, sent)
        found = Cluster(ray)
        lacking = [] if local is not None else found.lacking(found.nodes())
        if lacking:
            ray.shutdown()
            _connect(ray, address, _with_the_suite(sent, lacking))
            found.sent = tuple(lacking)
        yield found


def _with_the_suite(sent: Mapping[str, Any], lacking: Sequence[str]) -> Mapping[str, Any]:
    """What is sent to the nodes so that they have the suite.

    Raises:
        UserError: the user's own models are in another folder, and Ray sends one.
    """
    if not sent:
        # A pattern that excludes all but two would exclude the folder itself.
        others = [f"/{each.name}" for each in CHECKOUT.iterdir() if each.name not in SUITE_PACKAGES]
        return {"working_dir": str(CHECKOUT), "excludes": others}
    if Path(sent["working_dir"]) != CHECKOUT:
        raise UserError(
            f"fmnist-bench is not installed on {', '.join(lacking)}, and the folder that is sent "
            f"there is that of your models: install it there, or run this in {CHECKOUT}"
        )
    return sent


def _closed() -> None:
    """Let only who has a token reach the nodes that this process starts.

    Ray listens on all networks of this machine, and reads the mode when it is imported. A user who
    has set a mode is left alone.
    """
    if "ray" not in sys.modules and "RAY_AUTH_MODE" not in os.environ:
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))


def _ray() -> Any:
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    if importlib.util.find_spec("ray") is None:
        raise UserError('Ray is not installed: pip install ".[fleet]"')
    import ray

    # As `ray.init` is told, but before the first node is started.
    logging.getLogger(ray.__name__).setLevel(logging.ERROR)
    return ray


def _connect(ray: Any, address: str | None, sent: Mapping[str, Any]) -> None:
    """Make this process a driver of the cluster.

    Raises:
        UserError: there is none, or it has another version.
    """
    quiet = {"log_to_driver": False, "logging_level": "error"}
    _refuse_unreachable(address)
    try:
        ray.init(address=address, runtime_env=dict(sent) or None, **quiet)
    except ray.exceptions.AuthenticationError as error:
        raise UserError(
            f"--address {address}: RAY_AUTH_MODE asks for a token, and there is none: set "
            "RAY_AUTH_TOKEN to that of the cluster"
        ) from error
    except (OSError, RuntimeError, ValueError, TimeoutError, AssertionError) as error:
        reason = _last_line(error)
        if "ersion mismatch" in str(error):
            raise UserError(
                f"--address {address}: the cluster runs another version of Ray or Python than this "
                f"process ({' '.join(str(error).split())}); install the same on both"
            ) from error
        raise UserError(_none_there(address, reason)) from error


def _refuse_unreachable(address: str | None) -> None:
    """Refuse an address at which nothing answers, for which Ray would wait for minutes.

    Raises:
        UserError: it is neither `auto` nor HOST:PORT nor ray://HOST:PORT, or nothing answers.
    """
    if address == "auto":
        return
    try:
        place = urlsplit(address if "//" in str(address) else f"ray-gcs://{address}")
        found = (place.hostname, place.port)
    except ValueError as error:
        raise UserError(f"--address {address}: {error}; {_FORM}") from error
    if place.scheme not in ("ray", "ray-gcs") or not all(found):
        raise UserError(f"--address {address}: {_FORM}")
    try:
        socket.create_connection((str(found[0]), int(found[1] or 0)), _CONNECT_S).close()
    except OSError as error:
        raise UserError(_none_there(address, error.strerror or str(error))) from error


def _none_there(address: str | None, reason: str) -> str:
    return (
        f"--address {address}: no cluster can be reached there: {reason}; start one with "
        "ray start --head, or name --local N for nodes on this machine; one with a token wants "
        "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"
    )


def _started(ray: Any, count: int) -> Any:
    """A cluster of so many nodes on this machine."""
    from ray.cluster_utils import Cluster as LocalCluster

    for name, value in _OF_LOCAL.items():
        os.environ.setdefault(name, value)
    every: dict[str, Any] = {"num_cpus": 1, "object_store_memory": _LOCAL_MEMORY_BYTES}
    head = {**every, "node_name": "local-1", "include_dashboard": False}
    started = LocalCluster(initialize_head=True, head_node_args=head)
    for number in range(2, count + 1):
        started.add_node(node_name=f"local-{number}", **every)
    return started


def _name(node: Mapping[str, Any]) -> str:
    """The name that a user gave the node, else that of its host."""
    named, address = node["NodeName"], node["NodeManagerAddress"]
    return str(named if named and named != address else node["NodeManagerHostname"])


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
