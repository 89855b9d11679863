"""What a launch tells of the work that it trained, beside its rounds."""

from __future__ import annotations

from typing import Any

from bench.worker.counting import Counted, dense_layers, size_bytes, traffic
from bench.worker.framework import Device, framework
from bench.worker.training import Built
from fmnist_models.loops.base import Loop
from fmnist_models.own import raised


def told_of_work(built: Built, loop: Loop, device: Device, told: list[str]) -> dict[str, Any]:
    """The fields of a result about what was trained; warnings are added to `told`.

    The all-reduce is read first. Then steps are traced or run once more, so nothing else that is
    measured may come later.
    """
    task, model = built.task, built.work.model
    added_up = _all_reduce(built, device)
    layers = dense_layers(model)
    counted = Counted() if layers else framework().step_flops(built.work, loop)
    told += counted.warnings
    return {
        "jit_compile": loop.compiles,
        "steps_a_call": loop.steps_a_call,
        "score": task.score,
        "better": task.better,
        "score_target": task.target,
        "images": task.images,
        "data_digest": built.data_digest,
        "dense_layers": layers,
        "flops_per_sample": counted.flops_per_sample,
        "traffic": traffic(built.work),
        **added_up,
        **_waiting(built, device, told),
    }


def _all_reduce(built: Built, device: Device) -> dict[str, Any]:
    """The bytes of the trainable weights, and how long it takes replicas to add up so many.

    So many are the gradients of a step, where each of the weights has one in 32 bits.
    """
    bytes_a_step = sum(size_bytes(v) for v in built.work.model.trainable_variables)
    seconds = device.all_reduce_s(bytes_a_step)
    return {} if seconds is None else {"all_reduce_bytes": bytes_a_step, "all_reduce_s": seconds}


def _waiting(built: Built, device: Device, told: list[str]) -> dict[str, Any]:
    """How long steps wait; empty where it fails, with a warning, as the launch is measured."""
    try:
        return framework().waiting_of(built.work, device)
    except Exception as error:  # noqa: BLE001 - whatever the user's stream or step raises
        told.append(f"how long a step waits could not be read: it {raised(error)}")
        return {}
