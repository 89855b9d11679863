"""Joules by made-up counters: of packages and boards, over spans long enough, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.fakes_gpu import FAST, FakeNvml

from bench.analysis.rows import result_rows
from bench.machine.nvml import energy_counter
from bench.schema.case import Case
from bench.schema.launch import LaunchRecord, Round, Status, StoredRound
from bench.schema.plan import Plan, RunSettings
from bench.worker import energy
from bench.worker.energy import Counter, Spans, counter


@pytest.fixture
def powercap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A made-up /sys/class/powercap; sets zones by name."""
    monkeypatch.setattr(energy, "_POWERCAP", tmp_path)

    def put(zone: str, name: str, microjoules: int, limit: int = 1_000_000) -> None:
        folder = tmp_path / zone
        folder.mkdir(exist_ok=True)
        (folder / "name").write_text(f"{name}\n")
        (folder / "energy_uj").write_text(f"{microjoules}\n")
        (folder / "max_energy_range_uj").write_text(f"{limit}\n")

    return put


def test_packages_are_added_and_their_parts_are_not(powercap: Callable[..., None]) -> None:
    powercap("intel-rapl:0", "package-0", 1_000_000)
    powercap("intel-rapl:1", "package-1", 500_000)
    powercap("intel-rapl:0:0", "core", 900_000)
    powercap("intel-rapl:2", "psys", 9_000_000)
    powercap("intel-rapl-mmio:0", "package-0", 1_000_000)
    found = counter("cpu")
    assert found is not None
    assert found.read() == 1.5
    assert found.covers == "2 CPU packages (RAPL)"


def test_a_counter_that_begins_again_goes_on(powercap: Callable[..., None]) -> None:
    powercap("intel-rapl:0", "package-0", 900_000)
    found = counter("cpu")
    assert found is not None
    before = found.read()
    assert before is not None
    powercap("intel-rapl:0", "package-0", 100_000)
    assert (found.read() or 0) - before == pytest.approx(0.2)
    powercap("intel-rapl:0", "package-0", 50_000)
    assert (found.read() or 0) - before == pytest.approx(1.15)


def test_without_rapl_or_permission_nothing_is_known(
    powercap: Callable[..., None], tmp_path: Path
) -> None:
    assert counter("cpu") is None
    powercap("intel-rapl:0", "package-0", 900_000)
    (tmp_path / "intel-rapl:0/energy_uj").write_text("")
    assert counter("cpu") is None


def test_a_gpus_board_tells_joules() -> None:
    answers = {"nvmlDeviceGetTotalEnergyConsumption": 2_500}
    joules = energy_counter(FAST.uuid, FakeNvml(replace(FAST, answers=answers)))
    assert joules is not None
    assert joules() == 2.5


@pytest.mark.parametrize("uuid", ["", "0", "MIG-c7384736-a75d-5afc-978f-d2f1294409fd"])
def test_parts_of_cards_have_no_counter(uuid: str) -> None:
    assert energy_counter(uuid, FakeNvml(FAST)) is None


def test_cards_and_machines_without_a_counter() -> None:
    assert energy_counter(FAST.uuid, FakeNvml(FAST)) is None
    assert energy_counter(FAST.uuid, FakeNvml(init_error=9)) is None


class Clock:
    """Joules and seconds that pass as the test says; 10 W."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, update_s: float = 0.1, reading_s: float = 0.0
    ) -> None:
        self.now = 100.0
        self.readings = 0
        monkeypatch.setattr(energy.time, "perf_counter", lambda: self.now)

        def read() -> float:
            self.readings += 1
            self.now += reading_s
            return 10 * self.now

        self.spans = Spans(Counter("GPU board (NVML)", update_s, read))

    def round(self, seconds: float, evaluation_s: float = 0.0) -> None:
        self.spans.round_begins()
        self.now += seconds
        self.spans.round_ends(100)
        if evaluation_s:
            self.spans.closes()
            self.now += evaluation_s


def test_evaluations_are_not_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    clock.round(2.0, evaluation_s=50.0)
    clock.round(3.0, evaluation_s=50.0)
    assert clock.spans.result() == {
        "energy_j": 50.0,
        "energy_samples": 200,
        "energy_covers": "GPU board (NVML)",
    }


def test_short_rounds_count_where_nothing_comes_between(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    for _ in range(5):
        clock.round(0.5, evaluation_s=1.0)
    for _ in range(4):
        clock.round(0.5)
    assert clock.spans.result()["energy_samples"] == 400
    assert clock.spans.result()["energy_j"] == 20.0


def test_readings_take_little_of_a_span_however_short_its_rounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch, reading_s=0.003)
    for _ in range(1_000):
        clock.round(0.003)
    assert clock.readings <= 12
    told = clock.spans.result()
    # A reading each 0.3 s of training, and what comes after the last one is not counted.
    assert 900 * 100 <= told["energy_samples"] <= 1_000 * 100
    each = told["energy_j"] / told["energy_samples"] * 100
    assert each == pytest.approx(10 * 0.003, rel=0.011)


def test_what_is_too_short_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    clock.round(1.9)
    assert clock.spans.result() == {}
    assert Spans(None).result() == {}


def test_a_counter_that_fails_on_the_way_counts_nothing() -> None:
    answers = iter([1.0, None, 2.0, None])
    spans = Spans(Counter("", 1e-9, lambda: next(answers)))
    for _ in range(2):
        spans.round_begins()
        spans.round_ends(100)
    assert spans.result() == {}


def test_rows_say_joules_and_what_they_are_of() -> None:
    case = Case("softmax", "sgd", "compiled")
    plan = Plan((case,), RunSettings(epochs=1, launches=2))
    rounds = [StoredRound(case.id, k, 1, Round(1, 400, 4, 1.0, 0.0)) for k in range(2)]

    def row(**fields: Any) -> dict[str, Any]:
        launches = [LaunchRecord(case.id, k, 1, 42, Status.OK, **fields) for k in range(2)]
        return result_rows(plan, launches, rounds)[0]

    found = row(energy_j=20.0, energy_samples=4_000, energy_covers="CPU package (RAPL)")
    assert (found["samples_per_j"], found["epoch_j"]) == (200.0, 2.0)
    assert found["energy_covers"] == "CPU package (RAPL)"
    unknown = row()
    assert (unknown["samples_per_j"], unknown["epoch_j"], unknown["energy_covers"]) == (
        None,
        None,
        "",
    )
