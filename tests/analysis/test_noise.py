"""When readings matter, what they say, and which of them void a launch."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import Any

import pytest

from bench.analysis import noise
from bench.schema.launch import LaunchRecord, Status
from bench.schema.noise import Noise, Usage
from bench.schema.warnings import CaseWarning, Kind


def test_a_quiet_launch_says_nothing() -> None:
    calm = Noise(
        wall_s=8.0,
        steal_share=0.005,
        other_work_share=0.02,
        cpu_pressure_share=0.05,
        memory_pressure_share=0.0,
        quota_throttled_share=0.01,
        thermal_throttle_events=0,
        gpu_throttle_reasons=("gpu_idle", "sw_power_cap"),
        gpu_other_processes=0,
        involuntary_switches=10**6,
    )
    for reading in (calm, Noise(), None):
        assert noise.matters(reading) == []
        assert noise.warnings([(0, reading)]) == []
        assert noise.voids(reading) == ""


@pytest.mark.parametrize(
    ("reading", "says"),
    [
        ({"other_work_share": 0.06}, "other processes took 6% of the cores"),
        ({"steal_share": 0.03}, "the hypervisor took 3% of the cores' time"),
        ({"quota_throttled_share": 0.9}, "the control group's CPU quota cut 90% of its periods"),
        ({"thermal_throttle_events": 3}, "throttled for heat, times a core: 3"),
        ({"cpu_pressure_share": 0.4}, "threads waited for a core in 40% of the time"),
        ({"memory_pressure_share": 0.2}, "threads waited for memory in 20% of the time"),
        (
            {"gpu_throttle_reasons": ("gpu_idle", "hw_thermal_slowdown")},
            "the GPU was slowed by hw_thermal_slowdown",
        ),
    ],
)
def test_what_matters_is_said_and_voids_nothing(reading: dict[str, Any], says: str) -> None:
    (phrase,) = noise.matters(Noise(**reading))
    assert phrase.startswith(says)
    (warning,) = noise.warnings([(0, None), (1, Noise(**reading))])
    assert (str(warning), warning.launch) == (f"disturbed: {phrase} in launch 2", 1)
    assert noise.voids(Noise(**reading)) == ""


def test_clear_work_of_others_voids_a_launch() -> None:
    assert noise.voids(Noise(other_work_share=0.31, cpu_pressure_share=0.4)) == (
        "disturbed: other processes took 31% of the cores"
    )
    assert noise.voids(Noise(steal_share=0.21)).startswith("disturbed: the hypervisor took 21%")
    assert noise.voids(Noise(gpu_other_processes=2)) == (
        "disturbed: processes of others on the GPU: 2"
    )
    both = noise.voids(Noise(steal_share=0.5, other_work_share=0.3))
    assert both == (
        "disturbed: other processes took 30% of the cores, the hypervisor took 50% of the "
        "cores' time"
    )


@pytest.mark.parametrize("share", [noise.OTHER_WORK_VOIDS, 0.1])
def test_at_the_limit_a_launch_stands(share: float) -> None:
    assert noise.voids(Noise(other_work_share=share)) == ""


def test_a_warning_names_the_worst_launch_and_the_first_of_equals() -> None:
    shares = (0.1, None, 0.31, 0.31)
    readings = [(k, Noise(other_work_share=share)) for k, share in enumerate(shares)]
    assert noise.warnings(readings) == [CaseWarning(Kind.OTHER_WORK, 31, 2)]


def test_pressure_that_other_work_explains_is_not_said_twice() -> None:
    assert noise.matters(Noise(other_work_share=0.3, cpu_pressure_share=0.4)) == [
        "other processes took 30% of the cores"
    ]


def test_rays_daemons_are_named_among_the_others_and_only_there() -> None:
    ray = "Ray's own daemons among them took 4% of the cores"
    named = [str(w) for w in noise.warnings([(0, Noise(other_work_share=0.1, ray_share=0.04))])]
    assert named == [
        "disturbed: other processes took 10% of the cores in launch 1",
        f"disturbed: {ray} in launch 1",
    ]
    assert noise.voids(Noise(other_work_share=0.3, ray_share=0.04)) == (
        f"disturbed: other processes took 30% of the cores, {ray}"
    )
    # Idle daemons beside no other work, or next to nothing beside much of it, say nothing.
    assert noise.matters(Noise(other_work_share=0.05, ray_share=0.04)) == []
    assert len(noise.matters(Noise(other_work_share=0.3, ray_share=0.004))) == 1
    # Ray is not what stole the cores.
    assert ray not in noise.voids(Noise(steal_share=0.3, other_work_share=0.1, ray_share=0.04))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1])
def test_impossible_readings_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="steal_share"):
        Noise(steal_share=value)


def test_readings_survive_the_disk_and_other_versions() -> None:
    full = Noise(
        0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 1, 2.0, 1.5, 3, 4, 1e9, 2e9, ("sw_power_cap",), 0, 0.5
    )
    assert None not in [getattr(full, f.name) for f in fields(Noise)]
    assert Noise.from_json(json.loads(json.dumps({**asdict(full), "later": 1}))) == full
    usage = Usage(1.5, 2.0, None, 3)
    assert Usage.from_json({**json.loads(json.dumps(usage.to_json())), "later": 1}) == usage


def test_a_launch_record_keeps_its_readings_and_older_ones_have_none() -> None:
    record = LaunchRecord("a", 0, 1, 42, Status.OK, noise=Noise(steal_share=0.1))
    line = json.loads(json.dumps(record.to_json()))
    assert LaunchRecord.from_json(line) == record
    del line["noise"]
    assert LaunchRecord.from_json(line).noise is None
