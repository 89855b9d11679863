"""The reading of an all-reduce, which is one for all frameworks."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest

from bench.worker import replicas
from bench.worker.replicas import IN_A_CALL, PIECE_BYTES, reading_s

MIB = 2**20


class Replica:
    """A device that keeps what it is asked for; an all-reduce takes longer from turn to turn."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log: list[str] = []
        self.numbers: list[int] = []
        self.now_s = 0.0
        self._turns = count(1)
        monkeypatch.setattr(replicas, "perf_counter", lambda: self.now_s)

    def wait_for_others(self) -> None:
        self.log.append("wait")
        self.now_s += 100.0

    def synchronize(self) -> None:
        self.log.append("idle")
        self.now_s += 100.0

    def adding(self, numbers: int, times: int) -> Callable[[], None]:
        self.numbers.append(numbers)
        self.times = times
        return self.add

    def add(self) -> None:
        self.log.append("add")
        self.now_s += next(self._turns)

    def reading_s(self, size_bytes: int) -> float:
        device: Any = self
        return reading_s(device, size_bytes, self.adding)


def test_a_reading_is_without_the_waits_and_the_first_turns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replica = Replica(monkeypatch)
    # Of the turns 4 to 13.
    assert replica.reading_s(400) == 8.5 / IN_A_CALL
    assert replica.log == ["wait", "idle", "add"] * 13
    assert replica.numbers == [100]


@pytest.mark.parametrize(
    ("size_bytes", "numbers", "times"),
    [(25 * MIB, PIECE_BYTES // 4, 1), (1000 * MIB, PIECE_BYTES // 4, 40)],
)
def test_much_is_read_by_a_piece_of_it(
    size_bytes: int, numbers: int, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that has trained may leave no memory for as much again."""
    replica = Replica(monkeypatch)
    assert replica.reading_s(size_bytes) == 8.5 * times
    assert replica.numbers == [numbers]


@pytest.mark.parametrize(
    ("size_bytes", "times"), [(0, IN_A_CALL), (MIB, IN_A_CALL), (10 * MIB, 2), (25 * MIB, 1)]
)
def test_little_is_added_up_often_in_one_call(
    size_bytes: int, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between GPUs a call from Python takes longer than what it asks for."""
    replica = Replica(monkeypatch)
    assert replica.reading_s(size_bytes) == pytest.approx(8.5 / times)
    assert replica.times == times


def test_the_all_reduce_is_read_before_anything_is_traced_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from bench.worker import told
    from bench.worker.counting import Counted

    log = []

    def step_flops(*_: Any) -> Counted:
        """Trace a step."""
        log.append("traced")
        return Counted()

    def all_reduce_s(size_bytes: int) -> float:
        """Time an all-reduce."""
        log.append("read")
        return 1.0

    for name in ("dense_layers", "traffic"):
        monkeypatch.setattr(told, name, lambda _: None)
    found = SimpleNamespace(step_flops=step_flops, waiting_of=lambda *_: {})
    monkeypatch.setattr(told, "framework", lambda: found)
    named = dict.fromkeys(("score", "better", "target", "images"))
    built: Any = SimpleNamespace(
        task=SimpleNamespace(**named),
        work=SimpleNamespace(model=SimpleNamespace(trainable_variables=[])),
        data_digest="",
    )
    loop: Any = SimpleNamespace(compiles=True, steps_a_call=1)
    device: Any = SimpleNamespace(all_reduce_s=all_reduce_s)
    assert told.told_of_work(built, loop, device, [])["all_reduce_s"] == 1.0
    assert log == ["read", "traced"]
