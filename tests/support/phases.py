"""Readings of loops whose parts are known."""

from __future__ import annotations

from collections.abc import Callable

from bench.schema.profile import CHAINS, Phase, Variant

PARTS = {
    Phase.INPUT: 3e-4,
    Phase.FORWARD: 4e-4,
    Phase.BACKWARD: 5e-4,
    Phase.OPTIMIZER: 2e-4,
    Phase.METRICS: 1e-4,
}
DISPATCH_S, IDLE_S = 6e-4, 1e-4
STEP_S = sum(PARTS.values()) + DISPATCH_S


def readings(
    loop: str,
    rounds: int = 9,
    rest_s: float = 0.0,
    slow: Callable[[int], float] = lambda number: 1.0,
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """What a loop of these parts would be read as, `rest_s` of it in no part."""
    wall_s: dict[str, list[float]] = {}
    cpu_s: dict[str, list[float]] = {}
    for number in range(rounds):
        so_far = 0.0
        for variant in CHAINS[loop]:
            part = DISPATCH_S if variant is Variant.DISPATCH else PARTS[phase(variant)]
            so_far += part
            wall_s.setdefault(variant, []).append(so_far * slow(number))
            cpu_s.setdefault(variant, []).append((so_far - IDLE_S) * slow(number))
        wall_s.setdefault(Variant.STEP, []).append((so_far + rest_s) * slow(number))
        cpu_s.setdefault(Variant.STEP, []).append(so_far * slow(number))
    return wall_s, cpu_s


def phase(variant: Variant) -> Phase:
    return {
        "input": Phase.INPUT,
        "forward": Phase.FORWARD,
        "backward": Phase.BACKWARD,
        "optimizer": Phase.OPTIMIZER,
        "metrics": Phase.METRICS,
    }[variant]
