"""What runs on a node whose processes train one case together with those of other nodes.

It starts workers there as a launch on one machine does, and hands their lines on. It knows nothing
of Ray, which only carries what it is asked and answers.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import socket
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.launch.channel import LocalChannel
from bench.launch.ending import Ended
from bench.launch.meeting import PORT_VARIABLE, meeting_point, refuse_taken_port
from bench.launch.origin import Origin, child_command
from bench.launch.placement import LaunchPlace
from bench.machine import counters, devices, hardware, placement, variables
from bench.machine.loaded import CHECKOUT
from bench.machine.lock import lock_identity, the_machine
from bench.machine.nvml import Gpu, Inventory
from bench.machine.redact import scrub_text
from bench.schema.fleet import NodeFacts
from bench.schema.launch import Status
from bench.schema.noise import Noise
from bench.schema.plan import Plan
from bench.session.fleet.on_node import node_facts
from bench.store.files import scratch
from bench.verdicts.compatibility import refuse_changed_files
from fmnist_models.errors import UserError

# The end of a log that comes home; what a worker says last stands there.
LOG_BYTES = 1_000_000
# The variables by which gloo and NCCL choose where they listen.
_INTERFACE_VARIABLES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


@dataclass(frozen=True, slots=True)
class RankFacts:
    """What a node tells of itself before the first launch.

    Attributes:
        alike: what must be alike on all nodes.
        inventory: its GPUs.
        missing: why a backend of the plan cannot be used there, by its name.
        cpu_model: the name of its processor.
        lock: the identity of its machine's lock, which nodes on one machine share.
        pid: process id of what measures there.
        interface: the name of the network interface with its address; empty where none has it.
    """

    alike: NodeFacts
    inventory: Inventory
    missing: Mapping[str, str]
    cpu_model: str
    lock: str
    pid: int
    interface: str


class RankHost:
    """Starts processes of launches on this node, and hands on what they say.

    Args:
        address: the node's address, as other nodes reach it.
        command: the command of a worker; None for that of this node's suite.
    """

    def __init__(self, address: str, command: Sequence[str] | None = None) -> None:
        self._address = address
        self._command = tuple(command or child_command("bench.worker"))
        self._stack = contextlib.ExitStack()
        self._folder = Path(self._stack.enter_context(scratch()))
        self._numbers = itertools.count()
        self._channels: dict[int, LocalChannel] = {}
        self._logs: dict[int, Path] = {}
        self._closes: dict[int, counters.Close] = {}
        self._meetings: dict[str, contextlib.ExitStack] = {}

    def facts(self, plan: Plan) -> RankFacts:
        """What the node is.

        Raises:
            UserError: its lock cannot be used.
        """
        backends = {case.backend for case in plan.cases}
        missing = {name: placement.why_missing(name) for name in backends}
        try:
            lock = lock_identity()
        except OSError as error:
            raise UserError(f"the machine's lock cannot be opened: {error}") from error
        return RankFacts(
            node_facts(plan),
            devices.inventory(),
            {name: reason for name, reason in missing.items() if reason},
            hardware.cpu_model(),
            lock,
            os.getpid(),
            _interface(self._address),
        )

    def refuse_changed(self, path: Path, then: Mapping[str, Any]) -> None:
        """Refuse to resume a run of which this node would run other files.

        Args:
            path: the run's folder, at home.
            then: its environment.json.

        Raises:
            UserError: a file is missing or changed; the message names the first.
        """
        refuse_changed_files(path, then, {"suite": CHECKOUT, "models": Path.cwd()})

    def alive(self) -> None:
        """Answer."""

    def hold(self, *, wait: bool) -> None:
        """Hold the machine's lock until this process ends.

        Raises:
            UserError: another run has it (unless `wait`), or it cannot be locked.
        """
        self._stack.enter_context(the_machine(lambda _: None, wait))

    def refuse_taken(self, port: str) -> None:
        """Refuse a port of the user's that is taken here; empty for none."""
        refuse_taken_port({PORT_VARIABLE: port}, self._address)

    def meet(self, port: str) -> str:
        """`HOST:PORT` of this node at which processes can meet, until `part` is told of it."""
        stack = contextlib.ExitStack()
        point = stack.enter_context(meeting_point({PORT_VARIABLE: port}, self._address))
        self._meetings[point] = stack
        return point

    def part(self, point: str) -> None:
        """Another launch may meet there."""
        self._meetings.pop(point).close()

    def open(
        self, arguments: Sequence[str], of_case: Mapping[str, str], log: str
    ) -> tuple[int, int, str] | str:
        """Start a worker.

        Args:
            arguments: words that are appended to its command.
            of_case: the variables that the case sets.
            log: the name of its log.

        Returns:
            its number here, its process id and the path of its log; or why it did not start.
        """
        number = next(self._numbers)
        interface = _interface(self._address)
        reached = dict.fromkeys(_INTERFACE_VARIABLES, interface) if interface else {}
        environment = {**reached, **variables.for_worker(os.environ), **of_case}
        path = self._folder / f"{number}-{log}"
        place = LaunchPlace(environment, False, path, 0.0)
        try:
            channel = LocalChannel((*self._command, *arguments), place)
        except (Ended, UserError) as error:
            return scrub_text(str(error))
        self._channels[number], self._logs[number] = channel, path
        return number, channel.pid, str(path)

    def send(self, number: int, line: bytes) -> bool:
        """Write a line to a worker; False where it reads no more."""
        try:
            self._channels[number].send(line)
        except OSError:
            return False
        return True

    def lines(self, number: int, limit_s: float, roots: Mapping[str, str]) -> list[bytes | None]:
        """The next lines of a worker, as soon as there is one; None is the last.

        Args:
            number: the worker.
            limit_s: how long to wait for the first; none come then.
            roots: the folders of `suite` and `models` at home, in place of which files are named.
        """
        channel = self._channels[number]
        try:
            found = [channel.receive(limit_s)]
        except queue.Empty:
            return []
        while channel.waiting:
            found.append(channel.receive(0.0))
        return [None if line is None else _handed_on(line, roots) for line in found]

    def how_it_ended(self, number: int) -> tuple[Status, str]:
        """Why a worker ended that has closed its pipe."""
        ended = self._channels[number].how_it_ended(self._logs[number])
        return ended.status, scrub_text(ended.reason)

    def last_words(self, number: int) -> str:
        """The last line that a worker printed so far."""
        return scrub_text(self._channels[number].last_words(self._logs[number]))

    def signal_end(self, number: int) -> None:
        """Kill a worker and what a user's code started in it."""
        self._channels[number].signal_end(None)

    def wait_for_end(self, number: int) -> bytes:
        """Wait for the end of a killed worker, and forget it; returns the end of its log."""
        self._channels.pop(number).wait_for_end()
        log = self._logs.pop(number)
        try:
            with log.open("rb") as written:
                written.seek(max(0, log.stat().st_size - LOG_BYTES))
                return written.read()
        except OSError:
            return b""
        finally:
            log.unlink(missing_ok=True)

    def watch(self, pid: int, gpus: Mapping[Gpu, int], beside: Collection[int]) -> int:
        """Start the readings of a launch (`counters.watch`); returns the number of the watch."""
        number = next(self._numbers)
        self._closes[number] = counters.watch(pid, gpus, False, beside)
        return number

    def watched(self, number: int) -> Noise:
        """The readings since the start of a watch, which ends; nothing that the launch told."""
        return self._closes.pop(number)(None)

    def close(self) -> None:
        """End all workers, and let go of the lock and the files."""
        for channel in self._channels.values():
            channel.signal_end(None)
        for channel in self._channels.values():
            channel.wait_for_end()
        self._stack.close()


def _interface(address: str) -> str:
    """The name of the network interface that has an address; empty where none has it."""
    import psutil

    try:
        address = socket.gethostbyname(address)
        found = psutil.net_if_addrs()
    except (OSError, psutil.Error):
        return ""
    names = (name for name, every in found.items() for a in every if a.address == address)
    return next(names, "")


def _handed_on(line: bytes, roots: Mapping[str, str]) -> bytes:
    """A worker's line as it goes home: without names of this machine, files named as at home.

    A result of other files than those of this node's suite becomes an `invalid` failure, as at
    home their paths say nothing.
    """
    try:
        message = json.loads(line)
        kind = message["kind"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return line
    if kind == "failure":
        message["reason"] = scrub_text(str(message.get("reason", "")))
    elif kind == "result":
        files = message.get("files")
        if refusal := Origin(CHECKOUT).refusal(files, ()):
            status = str(Status.INVALID)
            message = {"kind": "failure", "status": status, "reason": scrub_text(refusal)}
        elif files:
            named = {name: (_at_home(path, roots), sha) for name, (path, sha) in files.items()}
            message["files"] = named
    else:
        return line
    return json.dumps(message).encode() + b"\n"


def _at_home(path: str, roots: Mapping[str, str]) -> str:
    """The path that a file of this node's suite, or below its working folder, has at home."""
    real = Path(os.path.realpath(path))
    for name, here in (("suite", CHECKOUT), ("models", Path.cwd())):
        if real.is_relative_to(os.path.realpath(here)):
            return str(Path(roots[name]) / real.relative_to(os.path.realpath(here)))
    return path
