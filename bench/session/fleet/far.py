"""A worker process on another node, as the session at home sees it.

A node is a `RankHost` behind a `Remote`, which knows how to call it.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bench.launch.channel import EXIT_LIMIT_S
from bench.launch.ending import Ended
from bench.launch.placement import LaunchPlace
from bench.machine.loaded import CHECKOUT
from bench.schema.errors import explained
from bench.schema.fleet import Node
from bench.schema.launch import Status
from bench.session.fleet.cluster import NodeLost
from bench.session.fleet.rank_host import RankFacts
from bench.store.files import write_bytes

# A node answers such a call at once; one that takes longer is as good as lost.
CALL_S = 30.0
# How long a node holds back its answer where a worker says nothing.
_LISTEN_S = 5.0


class Remote(Protocol):
    """A `RankHost` on a node."""

    def call(self, method: str, *arguments: Any, limit_s: float | None = None, **words: Any) -> Any:
        """What one of its methods returns, or raises.

        Raises:
            NodeLost: the node has ended, or did not answer within the limit.
        """


@dataclass(frozen=True, slots=True)
class Member:
    """A node that takes part.

    Attributes:
        node: the node.
        remote: what runs there.
        facts: what it told of itself.
    """

    node: Node
    remote: Remote
    facts: RankFacts


class FarChannel:
    """A worker process on another node, and the thread that fetches its lines.

    Args:
        member: the node.
        command: words after the command of a worker there.
        place: of this process; its environment holds only what the case sets.

    Raises:
        Ended: it cannot be started, or the node is lost.
    """

    def __init__(self, member: Member, command: Sequence[str], place: LaunchPlace) -> None:
        self._member = member
        self._log = place.log
        self._lost = ""
        self._over = False
        asked = (tuple(command), dict(place.environment), place.log.name)
        try:
            opened = member.remote.call("open", *asked, limit_s=CALL_S)
        except NodeLost as lost:
            raise self._of_lost(lost) from lost
        if isinstance(opened, str):
            raise Ended(Status.FAILED, opened)
        self._number, self._pid, self._far_log = opened
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def pid(self) -> int:
        """Its process id on its node."""
        return int(self._pid)

    def _listen(self) -> None:
        roots = {"suite": str(CHECKOUT), "models": str(Path.cwd())}
        while not self._over:
            try:
                found = self._member.remote.call("lines", self._number, _LISTEN_S, roots)
            except Exception as error:  # noqa: BLE001 - who waits for a line must be told
                self._lost = self._lost or str(error) or type(error).__name__
                found = [None]
            for line in found:
                self._lines.put(line)
                if line is None:
                    return

    def _of_lost(self, lost: object) -> Ended:
        return Ended(Status.KILLED, f"node {self._member.node.name} was lost: {lost}")

    def log_of(self, log: Path) -> str:
        """The path on the node; the file comes home when the process has ended."""
        return str(self._far_log)

    def send(self, line: bytes) -> None:
        """Write a line to its standard input; raises OSError where it reads no more."""
        try:
            is_read = self._member.remote.call("send", self._number, line, limit_s=CALL_S)
        except NodeLost as lost:
            self._lost = str(lost)
            raise OSError(str(lost)) from lost
        if not is_read:
            raise OSError("the worker reads no more")

    def receive(self, timeout_s: float) -> bytes | None:
        """Its next line; None where it has closed its pipe, or the node is lost."""
        return self._lines.get(timeout=timeout_s)

    def how_it_ended(self, log: Path) -> Ended:
        """Why a worker ended that has closed its pipe, or that the node is lost."""
        if self._lost:
            return self._of_lost(self._lost)
        try:
            status, reason = self._asked("how_it_ended")
        except NodeLost as lost:
            return self._of_lost(lost)
        return Ended(Status(status), reason)

    def last_words(self, log: Path) -> str:
        """The last line that it printed so far."""
        try:
            return str(self._asked("last_words"))
        except NodeLost as lost:
            return f"its node was lost: {lost}"

    def _asked(self, method: str) -> Any:
        return self._member.remote.call(method, self._number, limit_s=CALL_S + EXIT_LIMIT_S)

    def signal_end(self, forked: int | None) -> None:
        """Kill it, and what a user's code started in it; those of a lost node end by themselves."""
        if not self._over and not self._lost:
            with contextlib.suppress(NodeLost):
                self._asked("signal_end")

    def wait_for_end(self) -> None:
        """Wait for the end of the killed worker, and bring its log home."""
        if self._over:
            return
        self._over = True
        if self._lost:
            return
        with contextlib.suppress(NodeLost):
            printed = self._asked("wait_for_end")
            with explained(self._log.parent):
                write_bytes(self._log, printed)
