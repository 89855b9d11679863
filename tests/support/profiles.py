"""Profiles of made-up readings."""

from __future__ import annotations

from bench.analysis.trace_events import Operation
from bench.schema.profile import Phase, Readings, Variant
from support.phases import readings

MIB = 2**20
OPERATIONS = (
    Operation("MatMul.24", "XLA", Phase.FORWARD, 20, 4e-3, 4e-3, 0.8, 5e10),
    Operation("copy.1", "XLA", None, 20, 1e-3, 1e-3, 0.2, None),
)


def scripted(loop: str, rest_s: float = 0.0, peak_device: int | None = None) -> Readings:
    wall_s, cpu_s = readings(loop, rest_s=rest_s)
    step_s = wall_s[Variant.STEP]
    wall_s[Variant.TRACED] = [1.25 * seconds for seconds in step_s[:5]]
    where = "host" if peak_device is None else "device"
    return Readings(
        rows=3_200,
        steps=100,
        wall_s=wall_s,
        cpu_s=cpu_s,
        epoch_step_s=2e-3,
        traced_steps=20,
        startup_s={"import": 6.0, "images": 1.5, "build": 0.25, "first steps": 2.0},
        memory=[
            (where, "weights", MIB),
            (where, "optimizer slots", 2 * MIB),
            ("host", "dataset", 300 * MIB),
        ],
        peak_host_bytes=1_000 * MIB,
        peak_device_bytes=peak_device,
        jit_compile=False,
        model_name="relu_mlp",
        device_name="CPU",
        stack=[("fit (trainer.py)", 0.25)],
    )
