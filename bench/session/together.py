"""Measures cases that differ in their replicas alone together: their rounds alternate.

What disturbs a machine for some seconds is then in the rounds of each, and cancels in their ratio.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import TYPE_CHECKING

from bench.analysis import noise
from bench.launch.ending import lacked_memory
from bench.launch.stepwise import Turns
from bench.schema.case import Case
from bench.schema.launch import LaunchRecord, Status

if TYPE_CHECKING:
    from bench.session.attempts import RunUnderWay

Group = tuple[tuple[Case, ...], int]
_CROWDED = "the memory does not hold all launches that were to take turns: each is measured alone"


def in_groups(
    order: Sequence[tuple[Case, int]], cases: Sequence[Case], scaling: str
) -> Iterator[Group]:
    """The launches of a run in groups, each where its first launch stands in the order.

    The launches of one number are a group where their cases have the same case of one replica, and
    one of them has several. All of it is measured again where one launch is missing, because only
    rounds that alternated can be paired.

    Args:
        order: the launches to measure.
        cases: the cases of the run.
        scaling: how the batch grows with the replicas.
    """
    groups: dict[Case, list[Case]] = {}
    for case in cases:
        if case.replicas > 1:
            groups.setdefault(case.alone(scaling), []).append(case)
    for alone, spread in groups.items():
        if alone in cases:
            spread.insert(0, alone)
    of_case = {case: tuple(group) for group in groups.values() for case in group}
    begun: set[tuple[tuple[Case, ...], int]] = set()
    for case, launch in order:
        group = (of_case.get(case, (case,)), launch)
        if group not in begun:
            begun.add(group)
            yield group


def measure_together(run: RunUnderWay, cases: Sequence[Case], launch: int) -> None:
    """Measure the launches of one number of cases in turns, and write them to disk.

    As of single launches, disturbed ones are measured again, here all of them, and the last
    attempt counts. Where the memory does not hold all of them at once, each is measured alone.

    Raises:
        UserError: the files cannot be written, such as where the disk is full.
    """
    left_out = [case for case in cases if run.leaves_out(case)]
    measured = [case for case in cases if case not in left_out]
    for case in left_out:
        run.measure_launch(case, launch)
    if all(run.is_ok(case, launch) for case in measured):
        # The group was asked for because a case that is left out has no launch that ended ok.
        return
    if len(measured) == 1 or not _measure(run, measured, launch):
        for case in measured:
            run.measure_launch(case, launch)


def _measure(run: RunUnderWay, measured: Sequence[Case], launch: int) -> bool:
    """Measure the launches in turns; False where the memory does not hold all of them at once."""
    run.progress.together_begins(measured, launch)
    for left in reversed(range(run.attempts_at_most)):
        records = _take_turns(run, measured, launch)
        if any(lacked_memory(record, case) for case, record in records.items()):
            _void(run, records.values(), _CROWDED)
            return False
        ended = [r for r in records.values() if r.status is Status.OK]
        disturbed = next(filter(None, (noise.voids(r.noise) for r in ended)), "")
        if not disturbed or not left:
            break
        _void(run, records.values(), disturbed)
    if ended:
        run.note_last_attempt(disturbed=bool(disturbed))
    for case, record in records.items():
        run.keep(record)
        run.progress.launch_begins(case, launch)
        for round_ in run.measured(case, launch)[1]:
            run.progress.round_ends(round_)
        run.progress.launch_ends(record)
    return True


def _void(run: RunUnderWay, records: Iterable[LaunchRecord], reason: str) -> None:
    """Keep the launches of an attempt that does not count, and tell of those that ended ok."""
    for record in records:
        if record.status is not Status.OK:
            run.keep(record)
            continue
        void = replace(record, status=Status.INVALID, reason=reason)
        run.keep(void)
        run.progress.launch_voided(void)


def _take_turns(
    run: RunUnderWay, cases: Sequence[Case], launch: int
) -> Mapping[Case, LaunchRecord]:
    """One attempt of each launch: all warm up, then a round of each follows that of another.

    In each turn another case is first. Each has a template of its own, because a template waits
    for the end of the launch that it forked.
    """
    word = secrets.token_hex(4)
    records: dict[Case, LaunchRecord] = {}
    with ExitStack() as stack:
        running: dict[Case, Turns[LaunchRecord]] = {}
        for number, case in enumerate(cases):
            run.get_ready(case, launch, number)
        for number, case in enumerate(cases):
            attempt = run.attempt(
                case, launch, pauses=True, template=number, told=False, beside=cases
            )
            running[case] = stack.enter_context(closing(attempt))
        first = 0
        while running:
            turns = [*cases[first:], *cases[:first]]
            for case in [case for case in turns if case in running]:
                try:
                    next(running[case])
                except StopIteration as end:
                    records[case] = replace(end.value, turns=word)
                    del running[case]
            first = (first + 1) % len(cases)
    return {case: records[case] for case in cases}
