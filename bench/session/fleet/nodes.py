"""The nodes on which cases train together: where processes run, what can run, what disturbs it.

Launches there are always fresh processes: a template would have to be kept on each node.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from bench.launch.channel import Channel
from bench.launch.ending import Ended
from bench.launch.meeting import PORT_VARIABLE
from bench.launch.placement import LaunchPlace
from bench.machine import counters, placement
from bench.machine.devices import gpus_of
from bench.machine.lock import lock_identity
from bench.machine.nvml import Gpu
from bench.schema.case import Case
from bench.schema.cells import few_of
from bench.schema.errors import Unavailable
from bench.schema.launch import Status
from bench.schema.noise import Noise, Usage, worst
from bench.schema.plan import Plan, RunSettings
from bench.session.control import Probe
from bench.session.fleet.cluster import NodeLost
from bench.session.fleet.far import CALL_S, FarChannel, Member, Remote
from bench.verdicts.alike import differences
from fmnist_models.errors import UserError


class Nodes:
    """The nodes on which a case trains: where its processes run, and what they can run.

    The processes of a case are spread evenly: with N of them on M nodes, rank r is on node
    r / (N / M), rounded down. A case of one process runs on the first node.

    Args:
        members: the nodes, in the order of the ranks.
        environ: the environment of the session at home.
    """

    def __init__(self, members: Sequence[Member], environ: Mapping[str, str] = os.environ) -> None:
        self.members = tuple(members)
        self._port = environ.get(PORT_VARIABLE, "").strip()

    def _of_rank(self, rank: int, processes: int) -> Member:
        each = max(1, processes // len(self.members))
        return self.members[rank // each]

    def opened(
        self, command: Sequence[str], place: LaunchPlace, rank: int, folder: Path | None
    ) -> Channel:
        """Start one process of a launch on its node."""
        member = self._of_rank(rank, place.processes)
        return FarChannel(member, command, place.of_rank(rank))

    @contextlib.contextmanager
    def meeting(self) -> Iterator[str]:
        """`HOST:PORT` of the first node at which the processes of a launch can meet."""
        first = self.members[0]
        try:
            point = str(first.remote.call("meet", self._port, limit_s=CALL_S))
        except NodeLost as lost:
            raise Ended(Status.KILLED, f"node {first.node.name} was lost: {lost}") from lost
        try:
            yield point
        finally:
            with contextlib.suppress(NodeLost):
                first.remote.call("part", point, limit_s=CALL_S)

    def refuse_taken_port(self) -> None:
        """Refuse a port of the user's that is taken on the first node.

        Raises:
            UserError: it is, or it is no port.
        """
        self.members[0].remote.call("refuse_taken", self._port, limit_s=CALL_S)

    def named(self, rank: int, processes: int) -> str:
        """The node of a rank."""
        return f" on {self._of_rank(rank, processes).node.name}"

    def _shares(self, case: Case) -> Iterator[tuple[Member, Case]]:
        """Each node that takes part in a case, with the case that it would be there alone."""
        if case.processes == 1:
            yield self.members[0], case
            return
        here = case.processes // len(self.members)
        share = replace(case, replicas=here, processes=here)
        yield from ((member, share) for member in self.members)

    def skip_reason(self, case: Case, plan: Plan) -> str | None:
        """Why a node cannot run its part of a case of the plan; None where all can."""
        taken: dict[Gpu, str] = {}
        for member, share in self._shares(case):
            reason = member.facts.missing.get(case.backend) or placement.skip_reason(
                share, member.facts.inventory, plan, elsewhere=True
            )
            if reason:
                return f"{reason} (node {member.node.name})"
            for gpu in gpus_of(share, member.facts.inventory):
                other = taken.setdefault(gpu, member.node.name)
                if other != member.node.name:
                    return f"nodes {other} and {member.node.name} have one GPU, {gpu.name}"
        return None

    def forks(self, case: Case, settings: RunSettings) -> bool:
        """Never: a launch is a fresh process on each node."""
        return False

    def place(
        self, case: Case, log: Path, settings: RunSettings, beside: Sequence[Case]
    ) -> LaunchPlace:
        """The place of a launch: what the case sets in each process, and the GPUs of all.

        Raises:
            UserError: a node was lost before.
        """
        self._refuse_lost()
        environments: list[dict[str, str]] = []
        gpus: dict[Gpu, int] = {}
        for member, share in self._shares(case):
            machine = member.facts.inventory
            environments += [
                placement.variables_of_case(share, machine, rank) for rank in range(share.processes)
            ]
            for gpu in gpus_of(share, machine):
                gpus[gpu] = max(1, sum(gpu in self._used(other, member) for other in beside))
        first, *others = environments
        return LaunchPlace(first, False, log, settings.timeout_s, gpus, tuple(others))

    def _used(self, case: Case, member: Member) -> tuple[Gpu, ...]:
        """The GPUs of a node that a case uses."""
        for other, share in self._shares(case):
            if other is member:
                with contextlib.suppress(Unavailable):
                    return gpus_of(share, member.facts.inventory)
        return ()

    def _refuse_lost(self) -> None:
        for member in self.members:
            try:
                member.remote.call("alive", limit_s=CALL_S)
            except NodeLost as lost:
                raise UserError(
                    f"node {member.node.name} was lost ({lost}): what was measured is kept; fleet "
                    f"run --resume goes on once {len(self.members)} nodes are there"
                ) from lost

    def cpu_model(self) -> str:
        """The name of the first node's processor."""
        return self.members[0].facts.cpu_model

    def probe(self) -> Probe | None:
        """None, because the nodes measure and this process does not run there."""
        return None

    def warnings(self, case: Case) -> tuple[str, ...]:
        """Over which nodes a case was spread, and in what they differ."""
        if case.processes == 1:
            return ()
        names = few_of([member.node.name for member in self.members])
        return (f"trained across {len(self.members)} nodes: {names}", *self._differences)

    @cached_property
    def _differences(self) -> tuple[str, ...]:
        return differences({m.node.name: m.facts.alike for m in self.members})

    def watch(self, pid: int, gpus: Mapping[Gpu, int], forks: bool) -> counters.Close:
        """Start the readings of a launch on each machine, in the place of `counters.watch`.

        Nodes that share a machine, and the session at home where it is there too, are read once:
        the work of one is no disturbance of another.

        Args:
            pid: process id of the worker of the first rank, on the first node.
            gpus: the GPUs of all nodes that the launch uses.
            forks: no launch is a fork.
        """
        watches: list[tuple[Remote, int]] = []
        for together in self._machines():
            first = together[0]
            own = {gpu: n for gpu, n in gpus.items() if any(_has(m, gpu) for m in together)}
            beside = [m.facts.pid for m in together[1:]] + self._home(first)
            with contextlib.suppress(NodeLost):
                # A process of another node may have the same number.
                known = pid if first is self.members[0] else 0
                number = first.remote.call("watch", known, own, beside, limit_s=CALL_S)
                watches.append((first.remote, number))

        def close(usage: Usage | None) -> Noise:
            """The worst of the machines' readings, with what the launch told of all processes."""
            told: list[Noise] = []
            for remote, number in watches:
                with contextlib.suppress(NodeLost):
                    told.append(remote.call("watched", number, limit_s=CALL_S))
            return replace(worst(told), **counters.of_usage(usage)) if told else Noise()

        return close

    def _machines(self) -> list[list[Member]]:
        found: dict[str, list[Member]] = {}
        for member in self.members:
            found.setdefault(member.facts.lock, []).append(member)
        return list(found.values())

    def _home(self, member: Member) -> list[int]:
        """The process id of the session, where it is on the same machine as a node."""
        with contextlib.suppress(OSError):
            return [os.getpid()] if lock_identity() == member.facts.lock else []
        return []

    def hold(self, waits: Callable[[str], None]) -> None:
        """Take the lock of each machine once, in an order that is the same for all.

        Args:
            waits: is told that another run measures on a machine, for which this one waits.
        """
        for together in sorted(self._machines(), key=lambda members: members[0].facts.lock):
            first = together[0]
            try:
                first.remote.call("hold", wait=False, limit_s=CALL_S)
            except UserError as error:
                waits(f"node {first.node.name}: {str(error).partition(':')[0]}")
                first.remote.call("hold", wait=True)


def _has(member: Member, gpu: Gpu) -> bool:
    return gpu in member.facts.inventory.gpus
