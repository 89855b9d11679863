"""The evidence of what Ray's daemons cost: its blocks, from made-up launches, and one of a node."""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from bench.evidence import daemons
from bench.schema.case import Case

FIT, COMPILED = (Case("softmax", "adam", loop, "cpu", 32) for loop in ("fit", "compiled"))


def test_a_steady_drift_cancels_in_a_block_and_the_daemons_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order: list[str] = []
    spent = {11: 1.0, 12: 2.0}
    node_runs = False

    def measure(case: Case) -> float:
        order.append(f"{'B' if node_runs else 'A'} {case.loop}")
        # Each launch is slower by 1% than the one before; beside the node, fit by 5% more.
        return -9.0 + 0.01 * len(order) + (0.05 if node_runs and case is FIT else 0.0)

    @contextlib.contextmanager
    def node() -> Iterator[Mapping[int, float]]:
        nonlocal node_runs
        node_runs = True
        yield dict(spent)
        node_runs = False

    clock = iter([0.0, 20.0])
    monkeypatch.setattr(daemons.time, "perf_counter", lambda: next(clock))
    # Somebody else's daemon, 13, took much.
    monkeypatch.setattr(daemons, "ray_daemons_s", lambda: {11: 2.0, 12: 3.0, 13: 90.0})
    block = daemons.one_block([FIT, COMPILED], measure, node)
    assert order == [f"{side} {case.loop}" for side in "ABBA" for case in (FIT, COMPILED)]
    assert block.logs == pytest.approx({FIT.id: 0.05, COMPILED.id: 0.0})
    assert (block.daemons, block.cores) == (2, pytest.approx(2.0 / 20.0))


def test_a_row_is_the_mean_over_blocks_with_their_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = iter([daemons.Block({FIT.id: math.log(r)}, 5, c) for r, c in ((2, 0.1), (8, 0.3))])
    monkeypatch.setattr(daemons, "one_block", lambda *_: next(blocks))
    monkeypatch.setattr(daemons, "ray_daemons_s", lambda: {7: 1.0})
    told: list[str] = []
    with tempfile.TemporaryDirectory() as work:
        (row,) = daemons.daemon_rows(Path(work), told.append, 2, [FIT], rows=10)
    assert row["with_over_without"] == pytest.approx(4.0)
    low, high = row["with_over_without_low"], row["with_over_without_high"]
    assert low < 2.0 < 8.0 < high
    assert (row["blocks"], row["daemons"], row["daemons_cores"]) == (2, 5, pytest.approx(0.2))
    assert told[0] == "daemons of Ray that run here already, beside A and B alike: 1"


def test_a_node_idles_and_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    monkeypatch.setattr(daemons, "_SETTLES_S", 0.0)
    before = set(daemons.ray_daemons_s())
    with tempfile.TemporaryDirectory(prefix="ray-") as work:
        with daemons._idle_node(Path(work)) as idle:
            assert len(idle) >= 2
        assert not (set(idle) - before) & set(daemons.ray_daemons_s())
