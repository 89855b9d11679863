"""When XLA's operations ended. Pure functions over events in Chrome's trace format.

On a CPU, XLA's runtime gives parts of an operation to other threads. The operation's event ends
when the calling thread goes on. An event `end: NAME` with the same flow number marks the end of
the last part. The trace shows the work of the other threads as regions without a name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Event = Mapping[str, Any]
Interval = tuple[float, float]
END = "end: "
_REGION = "ThreadpoolListener::Region"
# XFlow stores a direction in the two lowest bits of a flow (tsl, xplane_schema.h).
_DIRECTION_BITS = 2


def ends(events: Iterable[Event]) -> dict[int, float]:
    """The end of each flow in microseconds, by the flow's number."""
    return {
        _flow(event): event["ts"]
        for event in events
        if event.get("ph") == "X" and event["name"].startswith(END) and _flow(event)
    }


def end_of(event: Event, ended: Mapping[int, float]) -> float:
    """The end of an operation in microseconds, its last part included."""
    _, own = interval(event)
    return max(own, ended.get(_flow(event), own))


def beyond(
    operations: Sequence[Event], events: Sequence[Event], ended: Mapping[int, float]
) -> list[float]:
    """Microseconds that each operation ran after its event ended, in the order of `operations`.

    Counted is the time until the operation's end in which any thread was in a region and in no
    operation. Where several operations run at once, the time is divided equally: a trace does not
    say which of them a region belongs to.

    Args:
        operations: events of operations that may give parts to other threads; no loops and calls,
            which contain other operations.
        events: the whole trace.
        ended: the result of `ends`.
    """
    helping = _helping(operations, events)
    changes: list[tuple[float, int, int]] = []
    tails = []
    for event in operations:
        end = end_of(event, ended)
        changes += [(event["ts"], 1, 0), (end, -1, 0)]
        tails.append((event["ts"] + event["dur"], end))
    changes += [change for start, end in helping for change in ((start, 0, 1), (end, 0, -1))]
    changes += [(start, 0, 0) for start, _ in tails]
    so_far, last, under_way, active = 0.0, 0.0, 0, 0
    at: dict[float, float] = {}
    for time, more, helps in sorted(changes):
        if active and under_way:
            so_far += (time - last) / under_way
        at[time] = so_far
        under_way, active, last = under_way + more, active + helps, time
    return [at[end] - at[start] for start, end in tails]


def merged(intervals: Iterable[Interval]) -> list[Interval]:
    """The union of intervals, as ascending intervals that do not touch."""
    found: list[Interval] = []
    for start, end in sorted(intervals):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((start, end))
    return found


def _helping(operations: Sequence[Event], events: Iterable[Event]) -> list[Interval]:
    """The intervals in which any thread was in a region and in none of the operations."""
    busy: dict[Any, list[Interval]] = {}
    for event in operations:
        busy.setdefault((event["pid"], event["tid"]), []).append(interval(event))
    regions: dict[Any, list[Interval]] = {}
    for event in events:
        if event.get("ph") == "X" and event["name"] == _REGION:
            regions.setdefault((event["pid"], event["tid"]), []).append(interval(event))
    return merged(
        part
        for thread, own in regions.items()
        for part in _without(merged(own), merged(busy.get(thread, ())))
    )


def _without(intervals: Sequence[Interval], holes: Sequence[Interval]) -> list[Interval]:
    """The intervals less the holes; both must be ascending and must not touch."""
    left, place = [], 0
    for start, end in intervals:
        while place < len(holes) and holes[place][1] <= start:
            place += 1
        at, number = start, place
        while number < len(holes) and holes[number][0] < end:
            if holes[number][0] > at:
                left.append((at, holes[number][0]))
            at, number = holes[number][1], number + 1
        if at < end:
            left.append((at, end))
    return left


def _flow(event: Event) -> int:
    """The number of the event's flow; 0 where it has none."""
    return int((event.get("args") or {}).get("flow", 0)) >> _DIRECTION_BITS


def interval(event: Event) -> Interval:
    """Where an event begins and ends, in microseconds."""
    return event["ts"], event["ts"] + event["dur"]
