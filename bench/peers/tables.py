"""The tables that `python -m bench.peers` prints, and the files that it writes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.table import Table

from bench.analysis.stats import throughput
from bench.backends import KNOWN
from bench.peers.known import LOSS_ONLY, NAMES, by_hand
from bench.peers.ratios import (
    LAUNCH_COLUMNS,
    PROMISE,
    RATIO_COLUMNS,
    Promise,
    Ratio,
    launch_rows,
    ratio_rows,
    to_by_hand,
    to_first,
)
from bench.peers.turns import Measured, Plan
from bench.store.files import Kind, target_of
from bench.store.tables import write_csv

RATIOS, LAUNCHES = Kind.table(RATIO_COLUMNS), Kind.table(LAUNCH_COLUMNS)


def tables(measured: Sequence[Measured], plan: Plan) -> Iterator[Table | str]:
    """Rates and what Keras costs over each framework by hand, and what they say of the promise."""
    for end in ("", LOSS_ONLY):
        names = [name for name in plan.names if name.endswith(LOSS_ONLY) == bool(end)]
        if not any(each.name in names for each in measured):
            continue
        yield f"\n{title_of(measured, plan)}{', without the accuracy' if end else ''}"
        yield rates(measured, plan, names)
        for framework in KNOWN:
            of = [name for name in names if NAMES[name].framework == framework]
            found = to_by_hand(measured, plan.batch_sizes, of)
            if found:
                yield (
                    f"\nKeras's samples/s over those of {KNOWN[framework].title} by hand, with "
                    "their 95% intervals"
                )
                yield costs(found)
    yield from promise_lines(to_by_hand(measured, plan.batch_sizes, plan.names))


def title_of(measured: Sequence[Measured], plan: Plan) -> str:
    """What was trained, where, and with how many threads."""
    case, where = plan.case, " and ".join(sorted({each.found.device for each in measured}))
    threads = "" if case.threads is None else f", threads: {case.threads}"
    return f"{case.model}, {case.optimizer}, {case.precision}, {where}{threads}"


def rates(measured: Sequence[Measured], plan: Plan, names: Sequence[str]) -> Table:
    """A table with the samples/s of peers with the same work, and the ratio to the first.

    Samples/s are those of `stats.throughput`. The accuracies are the range over launches, of the
    last round that all launches have.
    """
    shown = Table(box=None)
    shown.add_column("batch", justify="right")
    shown.add_column("trained by", no_wrap=True)
    shown.add_column("samples/s", justify="right", no_wrap=True)
    shown.add_column(f"over {names[0]}", justify="right", no_wrap=True)
    number = plan.rounds - 1
    accuracies = not names[0].endswith(LOSS_ONLY)
    if accuracies:
        shown.add_column("accuracy", justify="right", no_wrap=True)
    over = {(r.batch_size, r.peer): r for r in to_first(measured, plan.batch_sizes, names)}
    for batch in plan.batch_sizes:
        for name in names:
            launches = [
                each.found
                for each in measured
                if each.name == name and each.found.batch_size == batch
            ]
            if not launches:
                continue
            rate = throughput([[(one.samples, s) for s in one.seconds] for one in launches])
            cells = [str(batch), name, f"{rate.samples_per_s:,.0f}"]
            cells.append(_cell(over.get((batch, name))))
            last = [one.accuracies[number] for one in launches if one.accuracies]
            if accuracies:
                cells.append(f"{min(last):.3f}-{max(last):.3f}" if last else "")
            shown.add_row(*cells)
    return shown


def costs(ratios: Sequence[Ratio]) -> Table:
    """A table with what Keras reaches of the samples/s of each program by hand."""
    hands = list(dict.fromkeys(found.over for found in ratios))
    shown = Table(box=None)
    shown.add_column("batch", justify="right")
    shown.add_column("trained by", no_wrap=True)
    for hand in hands:
        shown.add_column(f"over {hand}", justify="right", min_width=19)
    cells = {(found.batch_size, found.peer, found.over): found for found in ratios}
    for batch, peer in dict.fromkeys((found.batch_size, found.peer) for found in ratios):
        shown.add_row(str(batch), peer, *(_cell(cells.get((batch, peer, h))) for h in hands))
    return shown


def _cell(found: Ratio | None) -> str:
    """A ratio with its interval, as text."""
    if found is None:
        return ""
    if found.peer == found.over:
        return "1"
    if found.low is None:
        return f"{found.ratio:.2f} (one launch)"
    return f"{found.ratio:.2f} ({found.low:.2f} to {found.high:.2f})"


def _how_good(found: Ratio) -> tuple[int, float]:
    """A ratio that is broken is worse than one of which less is known, wherever that may lie."""
    order = (Promise.BROKEN, Promise.NOT_SHOWN, Promise.HELD)
    return order.index(found.promise or Promise.HELD), found.low or 0.0


def promise_lines(ratios: Sequence[Ratio]) -> Iterator[str]:
    """A line for each `compiled` of which something is promised: where it holds, and where not."""
    promised = [found for found in ratios if found.promise]
    for peer in dict.fromkeys(found.peer for found in promised):
        own = [found for found in promised if found.peer == peer]
        worst = [
            min((f for f in own if f.batch_size == batch), key=_how_good)
            for batch in dict.fromkeys(found.batch_size for found in own)
        ]
        told = []
        for promise in Promise:
            places = [
                f"{f.batch_size} ({f.low:.2f})" if f.low is not None else str(f.batch_size)
                for f in worst
                if f.promise is promise
            ]
            if places:
                told.append(f"{promise} at batch {', '.join(places)}")
        title = KNOWN[NAMES[peer].framework].title
        missing = [name for name in by_hand(peer) if name not in {f.over for f in own}]
        without = f"; not measured beside {', '.join(missing)}" if missing else ""
        yield (
            f"\n{peer}, at least {PROMISE} of the fastest {title} by hand (the lower end of the "
            f"interval in brackets): {'; '.join(told)}{without}."
        )


def files_of(output: Path) -> tuple[Path, Path]:
    """The files of ratios and of launches.

    Raises:
        UserError: something else is there.
    """
    launches = output.with_name(f"{output.stem}_launches{output.suffix}")
    return target_of(output, RATIOS), target_of(launches, LAUNCHES)


def write(output: Path, measured: Sequence[Measured], plan: Plan) -> None:
    """Write the ratios, and beside them the launches that they come from."""
    ratios, launches = files_of(output)
    found = [
        *to_by_hand(measured, plan.batch_sizes, plan.names),
        *to_first(measured, plan.batch_sizes, plan.names),
    ]
    write_csv(ratios, RATIO_COLUMNS, ratio_rows(found), RATIOS)
    write_csv(launches, LAUNCH_COLUMNS, launch_rows(measured, plan), LAUNCHES)
