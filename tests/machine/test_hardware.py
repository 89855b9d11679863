"""Processor and memory facts, replayed from what Linux, macOS and others print."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from support.made_machine import Machine

from bench.machine import hardware
from bench.machine.hardware import (
    cgroup_cpu_quota,
    cgroup_memory_limit_bytes,
    command_output,
    cpu_affinity,
    cpu_facts,
    cpu_model,
    memory_bytes,
)

X86 = """\
processor\t: 0
vendor_id\t: AuthenticAMD
model\t\t: 17
model name\t: AMD EPYC  9B14 64-Core
flags\t\t: fpu sse4_2 avx2 avx fma avx512f amx_tile hypervisor avx512_bf16
"""
ARM = "processor\t: 0\nBogoMIPS\t: 243.75\nFeatures\t: fp asimd asimdhp sve bf16 i8mm\n"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    made_up = Machine(tmp_path / "a machine")
    monkeypatch.setattr(hardware, "_PROC", made_up.proc)
    monkeypatch.setattr(hardware, "_SYS", made_up.sys)
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    cpu_model.cache_clear()
    yield made_up
    cpu_model.cache_clear()


class TestGroupsOfVersion2:
    @pytest.fixture(autouse=True)
    def _mounted(self, machine: Machine) -> None:
        machine.write("proc/self/cgroup", "0::/user.slice/job.scope\n")
        machine.mount(("/", "cg", "cgroup2", "rw,nsdelegate"))

    def test_own_limits(self, machine: Machine) -> None:
        machine.write("cg/user.slice/job.scope/cpu.max", "150000 100000\n")
        machine.write("cg/user.slice/job.scope/memory.max", "1073741824\n")
        assert cgroup_cpu_quota() == 1.5
        assert cgroup_memory_limit_bytes() == 2**30

    def test_the_tightest_limit_on_the_way_to_the_root_holds(self, machine: Machine) -> None:
        machine.write("cg/user.slice/job.scope/cpu.max", "800000 100000\n")
        machine.write("cg/user.slice/cpu.max", "50000 100000\n")
        machine.write("cg/cpu.max", "200000 100000\n")
        machine.write("cg/user.slice/job.scope/memory.max", "max\n")
        machine.write("cg/memory.max", "4096\n")
        assert cgroup_cpu_quota() == 0.5
        assert cgroup_memory_limit_bytes() == 4096

    def test_no_limit(self, machine: Machine) -> None:
        machine.write("cg/user.slice/job.scope/cpu.max", "max 100000\n")
        machine.write("cg/user.slice/job.scope/memory.max", "max\n")
        assert cgroup_cpu_quota() is None
        assert cgroup_memory_limit_bytes() is None

    def test_a_group_outside_its_namespace_counts_from_the_mount(self, machine: Machine) -> None:
        machine.write("proc/self/cgroup", "0::/../other\n")
        machine.write("cg/cpu.max", "300000 100000\n")
        machine.write("other/cpu.max", "100000 100000\n")
        assert cgroup_cpu_quota() == 3


class TestGroupsOfVersion1:
    @pytest.fixture(autouse=True)
    def _mounted(self, machine: Machine) -> None:
        machine.write(
            "proc/self/cgroup",
            "9:name=systemd:/\n5:memory:/docker/4f\n3:cpu,cpuacct:/docker/4f\n0::/\n",
        )
        # As in a container without a namespace of its own: what is mounted is the group.
        machine.mount(
            ("/docker/4f", "cg/cpu", "cgroup", "rw,cpu,cpuacct"),
            ("/docker/4f", "cg/memory", "cgroup", "rw,memory"),
            ("/", "cg/unified", "cgroup2", "rw"),
        )

    def test_limits(self, machine: Machine) -> None:
        machine.write("cg/cpu/cpu.cfs_quota_us", "250000\n")
        machine.write("cg/cpu/cpu.cfs_period_us", "100000\n")
        machine.write("cg/memory/memory.limit_in_bytes", "2048\n")
        assert cgroup_cpu_quota() == 2.5
        assert cgroup_memory_limit_bytes() == 2048

    def test_no_limit(self, machine: Machine) -> None:
        machine.write("cg/cpu/cpu.cfs_quota_us", "-1\n")
        machine.write("cg/cpu/cpu.cfs_period_us", "100000\n")
        machine.write("cg/memory/memory.limit_in_bytes", "9223372036854771712\n")
        assert cgroup_cpu_quota() is None
        assert cgroup_memory_limit_bytes() is None

    def test_a_group_below_the_mount(self, machine: Machine) -> None:
        machine.write("proc/self/cgroup", "5:memory:/docker/4f/in/side\n")
        machine.write("cg/memory/in/side/memory.limit_in_bytes", "4096\n")
        machine.write("cg/memory/in/memory.limit_in_bytes", "1024\n")
        assert cgroup_memory_limit_bytes() == 1024


def test_no_groups_at_all(machine: Machine) -> None:
    assert cgroup_cpu_quota() is None
    assert cgroup_memory_limit_bytes() is None


class TestModel:
    def test_linux_on_x86(self, machine: Machine) -> None:
        machine.write("proc/cpuinfo", X86)
        assert cpu_model() == "AMD EPYC 9B14 64-Core"

    def test_macos(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(platform, "system", lambda: "Darwin")
        answer = "machdep.cpu.brand_string: Apple M3 Max\n"
        monkeypatch.setattr(hardware, "command_output", lambda *_, **__: answer.strip())
        assert cpu_model() == "Apple M3 Max"

    def test_arm_asks_cpuinfo(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        machine.write("proc/cpuinfo", ARM)
        monkeypatch.setattr(hardware, "_brand_of_windows", lambda: None)
        fake = SimpleNamespace(get_cpu_info=lambda: {"brand_raw": "Neoverse-V2"})
        monkeypatch.setitem(sys.modules, "cpuinfo", fake)
        assert cpu_model() == "Neoverse-V2"

    def test_the_architecture_if_nothing_else_is_known(
        self, machine: Machine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def unknown() -> dict[str, Any]:
            raise Exception("py-cpuinfo currently only works on X86 and some ARM CPUs.")

        monkeypatch.setattr(hardware, "_brand_of_windows", lambda: None)
        monkeypatch.setitem(sys.modules, "cpuinfo", SimpleNamespace(get_cpu_info=unknown))
        monkeypatch.setattr(platform, "processor", lambda: "")
        monkeypatch.setattr(platform, "machine", lambda: "riscv64")
        assert cpu_model() == "riscv64"


class TestFacts:
    def test_linux(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        machine.write("proc/cpuinfo", X86)
        cpus = "sys/devices/system/cpu"
        for number, governor in enumerate(["powersave", "performance", "powersave"]):
            machine.write(f"{cpus}/cpu{number}/cpufreq/scaling_governor", f"{governor}\n")
            package = {0: "0", 1: "1", 2: "-1"}[number]
            machine.write(f"{cpus}/cpu{number}/topology/physical_package_id", f"{package}\n")
        caches = [("1", "Data", "32K"), ("1", "Instruction", "64K"), ("3", "Unified", "32768K")]
        for number, (level, kind, size) in enumerate(caches):
            for name, text in (("level", level), ("type", kind), ("size", size)):
                machine.write(f"{cpus}/cpu0/cache/index{number}/{name}", f"{text}\n")
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 1}, raising=False)
        clock = SimpleNamespace(current=2596.144, min=0.0, max=0.0)
        monkeypatch.setattr(psutil, "cpu_freq", lambda: clock, raising=False)
        monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: 8 if logical else 4)
        assert cpu_facts() == {
            "model": "AMD EPYC 9B14 64-Core",
            "cores_logical": 8,
            "cores_physical": 4,
            "sockets": 2,
            "affinity": [1, 3],
            "cgroup_quota_cpus": None,
            "frequency_hz": 2_596_144_000,
            "frequency_max_hz": None,
            "governor": "performance, powersave",
            "caches_bytes": {"L1d": 32768, "L1i": 65536, "L3": 33554432},
            "vector_extensions": [
                "amx_tile",
                "avx",
                "avx2",
                "avx512_bf16",
                "avx512f",
                "fma",
                "sse4_2",
            ],
        }

    def test_extensions_of_arm(self, machine: Machine) -> None:
        machine.write("proc/cpuinfo", ARM)
        assert cpu_facts()["vector_extensions"] == ["asimd", "asimdhp", "bf16", "i8mm", "sve"]

    def test_caches_of_macos(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(platform, "system", lambda: "Darwin")
        monkeypatch.setattr(hardware, "cpu_model", lambda: "Apple M3")
        answer = "hw.l1dcachesize: 65536\nhw.l1icachesize: 131072\nhw.l2cachesize: 4194304"
        monkeypatch.setattr(hardware, "command_output", lambda *_, **__: answer)
        expected = {"L1d": 65536, "L1i": 131072, "L2": 4194304}
        assert cpu_facts()["caches_bytes"] == expected

    @pytest.mark.parametrize("error", [NotImplementedError, FileNotFoundError, RuntimeError])
    def test_everything_may_be_absent(
        self, machine: Machine, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
    ) -> None:
        def absent() -> None:
            raise error("no clock")

        monkeypatch.setattr(hardware, "cpu_model", lambda: "some CPU")
        monkeypatch.delattr(os, "sched_getaffinity", raising=False)
        monkeypatch.delattr(psutil.Process, "cpu_affinity", raising=False)
        monkeypatch.setattr(psutil, "cpu_freq", absent, raising=False)
        monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: None)
        known = {name for name, value in cpu_facts().items() if value is not None}
        assert known == {"model"}

    def test_affinity_where_only_psutil_tells(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr(os, "sched_getaffinity", raising=False)
        monkeypatch.setattr(psutil.Process, "cpu_affinity", lambda _: [2, 0], raising=False)
        assert cpu_affinity() == [0, 2]


def test_this_machine() -> None:
    cpu_model.cache_clear()
    assert cpu_model() == " ".join(cpu_model().split()) != ""
    assert memory_bytes() > 2**28
    affinity = cpu_affinity()
    assert affinity is None or len(affinity) >= 1
    quota, limit = cgroup_cpu_quota(), cgroup_memory_limit_bytes()
    assert quota is None or quota > 0
    assert limit is None or limit > 0


class TestCommandOutput:
    def test_what_it_prints(self) -> None:
        assert command_output(sys.executable, "-c", "print(' a ')") == "a"

    def test_absent(self) -> None:
        assert command_output("no-such-command-anywhere") is None

    def test_failed(self) -> None:
        command = (sys.executable, "-c", "print('a'); raise SystemExit(1)")
        assert command_output(*command) is None
        assert command_output(*command, any_exit=True) == "a"
