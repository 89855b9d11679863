"""Readings from made-up /proc and /sys trees, whole, absent, garbled and at a standstill."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from support.fakes_gpu import FAST, PARTITIONED, FakeNvml
from support.made_machine import Machine

from bench.machine import counters, hardware

# Bound before a fixture of all tests puts a quiet machine in its place.
from bench.machine.counters import watch
from bench.machine.devices import inventory
from bench.machine.nvml import Gpu, GpuUse, gpu_use
from bench.schema.noise import Noise, Usage
from bench.worker import usage

linux = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
THROTTLE = "sys/devices/system/cpu/{}/thermal_throttle/{}_throttle_count"


class Scene(Machine):
    """A made-up machine whose clock and own CPU time a test sets as well."""

    now_s = 100.0
    own_s: float | None = 1.0
    ray_s: Mapping[int, float] = {}

    def stat(self, *cores: str) -> None:
        lines = [f"cpu{n} {ticks}\n" for n, ticks in enumerate(cores)]
        self.write("proc/stat", f"cpu  1 1 1 1\n{''.join(lines)}intr 5 0\nctxt 7\n")

    def pressure(self, resource: str, total_us: int | str) -> None:
        line = f"some avg10=0.00 avg60=1.00 avg300=0.10 total={total_us}\n"
        self.write(f"proc/pressure/{resource}", f"{line}full avg10=0.00 total=999999999\n")

    def periods(self, group: str, periods: int, throttled: int) -> None:
        text = f"usage_usec 5\nnr_periods {periods}\nnr_throttled {throttled}\nthrottled_usec 9\n"
        self.write(f"cg/{group}cpu.stat", text)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    made_up = Scene(tmp_path / "a machine")
    for module in (counters, hardware):
        monkeypatch.setattr(module, "_PROC", made_up.proc)
        monkeypatch.setattr(module, "_SYS", made_up.sys)
    monkeypatch.setattr(counters, "_own_tree_s", lambda beside: made_up.own_s)
    monkeypatch.setattr(counters, "ray_daemons_s", lambda: made_up.ray_s)
    monkeypatch.setattr(hardware, "cpu_affinity", lambda: None)
    monkeypatch.setattr(hardware, "_clock", lambda: SimpleNamespace(current=2600.0))
    monkeypatch.setattr(counters.os, "sysconf", lambda name: 100, raising=False)
    # Of this module alone: pytest's own clock is another's business.
    monkeypatch.setattr(counters, "time", SimpleNamespace(perf_counter=lambda: made_up.now_s))
    return made_up


def later(scene: Scene, seconds: float = 10.0, own_s: float = 0.0) -> None:
    """The moment between the two readings."""
    scene.now_s += seconds
    scene.own_s = None if scene.own_s is None else scene.own_s + own_s


# Ticks of 10 ms: user nice system idle iowait irq softirq steal guest guest_nice.
@linux
def test_cores_tell_steal_and_the_work_of_others(scene: Scene) -> None:
    scene.stat("100 0 50 1000 5 0 0 10 0 0", "200 0 0 2000 0 0 0 0 0 0")
    close = watch(1, {})
    later(scene, own_s=6.0)
    # 20 s of two cores: 9 s busy, 6 of them its own, 2 s stolen.
    scene.stat("500 100 150 1300 5 0 0 110 400 100", "400 0 50 2600 0 30 20 100 0 0")
    found = close(None)
    assert found.wall_s == pytest.approx(10.0)
    assert found.steal_share == pytest.approx(2.0 / 20.0)
    assert found.other_work_share == pytest.approx((9.0 - 6.0) / 20.0)


@linux
def test_cores_that_the_suite_may_not_use_are_left_out(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "cpu_affinity", lambda: [1])
    scene.stat("0 0 0 0 0 0 0 0", "0 0 0 0 0 0 0 0")
    close = watch(1, {})
    later(scene, own_s=1.0)
    scene.stat("1000 0 0 0 0 0 0 0", "250 0 0 750 0 0 0 0")
    assert close(None).other_work_share == pytest.approx(0.15)


@linux
def test_what_rays_daemons_took_is_told_apart(scene: Scene) -> None:
    scene.stat("0 0 0 0 0 0 0 0")
    scene.ray_s = {11: 5.0, 12: 7.0, 13: 2.0}
    close = watch(1, {})
    later(scene, own_s=2.0)
    scene.stat("500 0 0 500 0 0 0 0")
    # One ended, one began, and one has taken over the number of another.
    scene.ray_s = {11: 5.6, 13: 1.0, 14: 0.4}
    found = close(None)
    assert found.other_work_share == pytest.approx(0.3)
    assert found.ray_share == pytest.approx(0.1)
    scene.ray_s = {}
    assert close(None).ray_share is None


@linux
def test_own_time_beyond_the_ticks_is_no_work_of_others(scene: Scene) -> None:
    scene.stat("0 0 0 0 0 0 0 0")
    close = watch(1, {})
    later(scene, own_s=2.01)
    scene.stat("200 0 0 800 0 0 0 0")
    assert close(None).other_work_share == 0.0


@linux
def test_where_own_time_is_not_known_nothing_is_blamed_on_others(scene: Scene) -> None:
    scene.own_s = None
    scene.stat("0 0 0 0 0 0 0 0")
    close = watch(1, {})
    later(scene)
    scene.stat("900 0 0 100 0 0 0 0")
    found = close(None)
    assert found.other_work_share is None
    assert found.steal_share == 0.0


@linux
def test_an_old_kernel_tells_no_steal(scene: Scene) -> None:
    scene.stat("0 0 0 0")
    close = watch(1, {})
    later(scene, own_s=4.0)
    scene.stat("500 0 0 500")
    found = close(None)
    assert found.steal_share is None
    assert found.other_work_share == pytest.approx(0.1)


@linux
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("100 0 0 100 0 0 0 5", "100 0 0 100 0 0 0 5"),  # a sandbox: nothing moves
        ("100 0 0 100 0 0 0 5", "90 0 0 80 0 0 0 4"),  # set back
        ("100 0 0 x 0 0 0 5", "200 0 0 200 0 0 0 9"),
        ("", ""),
    ],
)
def test_cores_that_do_not_count_are_unknown(scene: Scene, before: str, after: str) -> None:
    scene.stat(before)
    close = watch(1, {})
    later(scene)
    scene.stat(after)
    found = close(None)
    assert found.steal_share is found.other_work_share is None


@linux
def test_a_window_of_a_few_ticks_tells_no_shares_of_cores(scene: Scene) -> None:
    scene.stat("0 0 0 0 0 0 0 0")
    close = watch(1, {})
    later(scene, counters.SHORTEST_S / 2)
    scene.stat("20 0 0 0 0 0 0 5")
    assert close(None).other_work_share is None


def test_pressure_is_a_share_of_wall_time(scene: Scene) -> None:
    scene.pressure("cpu", 1_000_000)
    scene.pressure("memory", 500)
    close = watch(1, {})
    later(scene)
    scene.pressure("cpu", 5_000_000)
    found = close(None)
    assert found.cpu_pressure_share == pytest.approx(0.4)
    assert found.memory_pressure_share == 0.0


@pytest.mark.parametrize("total", ["x", "", "-5"])
def test_garbled_pressure_is_unknown(scene: Scene, total: str) -> None:
    scene.pressure("cpu", total)
    close = watch(1, {})
    later(scene)
    assert close(None).cpu_pressure_share is None


def test_pressure_set_back_or_beyond_the_clock(scene: Scene) -> None:
    scene.pressure("cpu", 1_000_000)
    scene.pressure("memory", 0)
    close = watch(1, {})
    later(scene, 1.0)
    scene.pressure("cpu", 10)
    scene.pressure("memory", 1_010_000)
    found = close(None)
    assert found.cpu_pressure_share is None
    assert found.memory_pressure_share == 1.0


def test_a_quota_is_told_by_its_periods_in_the_worst_group(scene: Scene) -> None:
    scene.write("proc/self/cgroup", "0::/pod/job\n")
    scene.mount(("/", "cg", "cgroup2", "rw"))
    scene.periods("pod/job/", 100, 10)
    scene.periods("pod/", 200, 10)
    close = watch(1, {})
    later(scene)
    scene.periods("pod/job/", 200, 35)
    scene.periods("pod/", 300, 10)
    assert close(None).quota_throttled_share == pytest.approx(0.25)


def test_a_quota_of_version_1(scene: Scene) -> None:
    scene.write("proc/self/cgroup", "1:cpu,cpuacct:/job\n")
    scene.mount(("/", "cg", "cgroup", "rw,cpu,cpuacct"))
    text = "nr_periods {}\nnr_throttled {}\nthrottled_time 123456789\n"
    scene.write("cg/job/cpu.stat", text.format(10, 5))
    close = watch(1, {})
    later(scene)
    scene.write("cg/job/cpu.stat", text.format(20, 10))
    assert close(None).quota_throttled_share == pytest.approx(0.5)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "usage_usec 5\n",
        "nr_periods 0\nnr_throttled 0\n",
        "nr_periods 5\n",
        "nr_periods x\n",
        "nr_periods 9\nnr_throttled 3\n",
    ],
)
def test_without_a_quota_or_a_period_there_is_no_share(scene: Scene, text: str) -> None:
    scene.write("proc/self/cgroup", "0::/\n")
    scene.mount(("/", "cg", "cgroup2", "rw"))
    scene.write("cg/cpu.stat", text)
    close = watch(1, {})
    later(scene)
    assert close(None).quota_throttled_share is None


def test_heat_is_told_by_the_counter_that_rose_most(scene: Scene) -> None:
    for core in ("cpu0", "cpu1"):
        scene.write(THROTTLE.format(core, "core"), "7\n")
        scene.write(THROTTLE.format(core, "package"), "100\n")
    scene.write(THROTTLE.format("cpu2", "core"), "many\n")
    close = watch(1, {})
    later(scene)
    assert close(None).thermal_throttle_events == 0
    scene.write(THROTTLE.format("cpu1", "core"), "9\n")
    scene.write(THROTTLE.format("cpu0", "package"), "103\n")
    assert close(None).thermal_throttle_events == 3


def test_what_no_system_tells_is_none_and_never_zero(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "_clock", lambda: None)
    monkeypatch.setattr(counters, "_core_times", lambda: None)
    close = watch(1, {})
    later(scene)
    assert close(None) == replace(Noise(), wall_s=10.0)


def test_no_time_at_all_gives_no_shares(scene: Scene) -> None:
    scene.stat("0 0 0 0 0 0 0 0")
    scene.pressure("cpu", 0)
    found = watch(1, {})(Usage(0.0, 0.0))
    shares = {name for name, value in asdict(found).items() if value is not None}
    assert shares == {"wall_s", "cpu_s", "cpu_clock_hz"}


def test_what_the_launch_tells_of_itself(scene: Scene) -> None:
    close = watch(1, {})
    later(scene)
    found = close(Usage(6.0, 4.0, 12, 34))
    assert (found.cpu_s, found.cpu_cores) == (6.0, 1.5)
    assert (found.voluntary_switches, found.involuntary_switches) == (12, 34)
    assert found.cpu_clock_hz == 2.6e9


def test_elsewhere_psutil_tells_the_cores(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1.0
    monkeypatch.setattr(counters.sys, "platform", "darwin")
    times = SimpleNamespace(_asdict=lambda: {"user": now, "nice": 0.0, "system": 1.0, "idle": 9.0})
    monkeypatch.setattr(psutil, "cpu_times", lambda: times)
    close = watch(1, {})
    later(scene, own_s=2.0)
    now = 6.0
    found = close(None)
    assert found.other_work_share == pytest.approx((5.0 - 2.0) / 5.0)
    assert found.steal_share is None


def test_the_work_of_children_and_their_children_is_the_suites_own() -> None:
    busy = "import time\nwhile time.process_time() < 0.4: pass"
    nested = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {busy!r}]);"
        "print(flush=True); sys.stdin.read()"
    )
    before = counters._own_tree_s()
    with psutil.Popen([sys.executable, "-c", nested], stdin=-1, stdout=-1) as child:
        child.stdout.readline()
        after = counters._own_tree_s()
        child.stdin.close()
    waited = counters._own_tree_s()
    assert before is not None
    assert after is not None
    assert waited is not None
    # A tenth less than was used: the system counts the time of other processes in ticks.
    assert after - before >= 0.3
    # The ranks of a launch have ended, and were waited for, when it is read.
    assert waited - before >= 0.3


def test_the_work_of_what_another_process_of_the_suite_started_is_no_work_of_others() -> None:
    busy = "import time\nwhile time.process_time() < 0.4: pass\nprint(flush=True); input()"
    with psutil.Popen([sys.executable, "-c", busy], stdin=-1, stdout=-1) as other:
        other.stdout.readline()
        mine, both = counters._own_tree_s(), counters._own_tree_s([other.pid])
        other.stdin.close()
    assert mine is not None
    assert both is not None
    # It is a child of this process already, and counts once.
    assert both - mine < 0.3


def test_own_usage_rises_with_work() -> None:
    own = usage.OwnUsage()
    sum(range(100_000))
    found = own.so_far()
    assert found.cpu_s > 0
    assert found.wall_s > 0
    assert (found.voluntary_switches is None) == (sys.platform == "win32")


def test_a_real_reading_is_complete_enough_and_valid() -> None:
    found = watch(os.getpid(), {})(None)
    assert found.wall_s is not None
    assert found.gpu_other_processes is found.gpu_clock_hz is None


# The GPU.


def of(*pids: int) -> list[SimpleNamespace]:
    return [SimpleNamespace(pid=pid) for pid in pids]


GPU = Gpu(0, FAST.name, FAST.uuid)
BUSY = {
    "nvmlDeviceGetCurrentClocksEventReasons": 0x44,
    "nvmlDeviceGetClockInfo": 1215,
    "nvmlDeviceGetComputeRunningProcesses": of(7, 8, 9),
    "nvmlDeviceGetGraphicsRunningProcesses": of(8),
}


def test_gpu_use_leaves_out_who_draws() -> None:
    nvml = FakeNvml(replace(FAST, answers=BUSY))
    assert gpu_use(GPU, nvml) == GpuUse(
        1.215e9, ("sw_power_cap", "hw_thermal_slowdown"), frozenset({7, 9})
    )
    assert nvml.open_sessions == 0


def test_gpu_use_of_a_mig_device_asks_itself_and_its_card() -> None:
    first, *rest = PARTITIONED.mig
    assert first is not None
    device = replace(first, answers={"nvmlDeviceGetComputeRunningProcesses": of(3)})
    card = replace(PARTITIONED, mig=(device, *rest), answers={"nvmlDeviceGetClockInfo": 1000})
    nvml = FakeNvml(card)
    assert gpu_use(inventory({}, nvml).gpus[0], nvml) == GpuUse(1e9, None, frozenset({3}))


def test_gpu_use_without_a_driver_or_answers_is_unknown() -> None:
    assert gpu_use(GPU, FakeNvml(init_error=9)) == GpuUse()
    assert gpu_use(GPU, FakeNvml(FAST)) == GpuUse()


@pytest.mark.parametrize(
    ("before", "after", "others"),
    [
        ((), (1,), 0),
        ((5,), (1, 5), 1),
        ((), (1, 5, 6), 2),
        ((), (4242,), 0),  # a container: the host's number of the launch itself
        ((5,), (), 1),
        ((), (), 0),
        (None, (1, 5), 1),
        (None, None, None),
    ],
)
def test_other_processes_on_the_gpu(
    scene: Scene,
    monkeypatch: pytest.MonkeyPatch,
    before: tuple[int, ...] | None,
    after: tuple[int, ...] | None,
    others: int | None,
) -> None:
    answers = iter(
        GpuUse(1e9, ("gpu_idle",), None if pids is None else frozenset(pids))
        for pids in (before, after)
    )
    monkeypatch.setattr(counters, "gpu_use", lambda gpu: next(answers))
    found = watch(1, {GPU: 1})(None)
    assert found.gpu_other_processes == others
    assert (found.gpu_clock_hz, found.gpu_throttle_reasons) == (1e9, ("gpu_idle",))


def test_of_several_gpus_the_fullest_and_the_slowest_counts(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = replace(GPU, index=1, uuid="GPU-other")
    calm, hot = ("gpu_idle",), ("gpu_idle", "hw_thermal_slowdown")
    uses = {
        GPU: GpuUse(2e9, calm, frozenset({1})),
        other: GpuUse(1e9, hot, frozenset({1, 8, 9})),
    }
    monkeypatch.setattr(counters, "gpu_use", uses.__getitem__)
    found = watch(1, {GPU: 1, other: 1})(None)
    assert found.gpu_other_processes == 2
    assert (found.gpu_clock_hz, found.gpu_throttle_reasons) == (1e9, hot)


@pytest.mark.parametrize(
    ("before", "after", "others"),
    [
        # Of three launches that take turns, the one that began first and the one that began last.
        ((), (1, 2, 3), 0),
        ((2, 3), (1,), 0),
        ((2, 3, 7), (1, 7), 1),
        ((7,), (1, 2, 3, 7), 1),
    ],
)
def test_launches_that_take_turns_are_no_strangers_to_each_other(
    scene: Scene,
    monkeypatch: pytest.MonkeyPatch,
    before: tuple[int, ...],
    after: tuple[int, ...],
    others: int,
) -> None:
    answers = iter(GpuUse(1e9, (), frozenset(pids)) for pids in (before, after))
    monkeypatch.setattr(counters, "gpu_use", lambda gpu: next(answers))
    assert watch(1, {GPU: 3})(None).gpu_other_processes == others
