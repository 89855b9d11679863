"""A worker whose launches take milliseconds: its figures are generated, its processes are real.

It uses the protocol of `bench.worker`, forks its launches from a template in the same way, and
writes messages with a short pause between them. Its seconds are drawn from the seed of the launch
and from TORTURE_SALT, so two runs with one salt report the same.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from typing import Any

from bench.schema.profile import CHAINS, Variant
from bench.worker.serve import end_with_parent

# Seconds between two messages, long enough that some kills come between them.
_MOMENT_S = 0.004
SALT = "TORTURE_SALT"
ROUNDS = 4
SAMPLES = 800


class _Channel:
    """The pipe to the parent."""

    def __init__(self, number: int) -> None:
        self._pipe = os.fdopen(number, "wb", buffering=0)

    def emit(self, kind: str, **fields: Any) -> None:
        """Send one message after a short pause."""
        time.sleep(_MOMENT_S)
        self._pipe.write(json.dumps({"kind": kind, **fields}).encode() + b"\n")


def _report(channel: _Channel, message: dict[str, Any]) -> None:
    request = message["request"]
    if message["op"] == "ceilings":
        channel.emit("result", ceilings=_ceilings(request))
    elif message["op"] == "profile":
        channel.emit("result", readings=_readings(request["case"]["loop"]))
    else:
        _launch(channel, request, pauses=message["pauses"])


def _launch(channel: _Channel, request: dict[str, Any], *, pauses: bool) -> None:
    draw = random.Random(f"{request['seed']} {os.environ.get(SALT, '')}")
    batch_size = request["case"]["batch_size"]
    for number in range(1, max(ROUNDS, request["epochs"]) + 1):
        if pauses:
            channel.emit("pause")
            if not sys.stdin.buffer.readline():
                os._exit(1)
        documented = number <= request["epochs"]
        channel.emit(
            "round",
            round=number,
            samples=SAMPLES,
            updates=-(-SAMPLES // batch_size),
            seconds=0.1 * draw.uniform(0.99, 1.01),
            between_epochs_s=0.01,
            evaluation_s=0.02 if documented else None,
            train_loss=1.0 / number,
            train_score=0.8,
            val_loss=1.0 / number if documented else None,
            val_score=0.8 if documented else None,
        )
    channel.emit(
        "result",
        parameters=79_510,
        jit_compile=True,
        warmup_s=0.1,
        after_training_s=0.01,
        test_loss=0.5,
        test_score=0.8,
        peak_host_memory_bytes=1_000_000,
        warnings=[],
    )


def _ceilings(request: dict[str, Any]) -> dict[str, Any]:
    asked = {name: request[name] for name in ("device", "precision", "threads", "moment")}
    return {
        **asked,
        "matmul_flops_per_s": {"plain": 1e11, "xla": 9e10},
        "bandwidth_bytes_per_s": {"1048576": 5e10, "1073741824": 2e10},
        "products_s": {},
    }


def _readings(loop: str) -> dict[str, Any]:
    rounds = 5
    chain = CHAINS[loop]
    wall_s = {name: [1e-3 * (step + 1)] * rounds for step, name in enumerate(chain)}
    wall_s[Variant.STEP] = [1e-3 * len(chain)] * rounds
    return {
        "rows": SAMPLES,
        "steps": 25,
        "wall_s": wall_s,
        "cpu_s": wall_s,
        "epoch_step_s": 1e-3 * len(chain),
        "traced_steps": 20,
        "startup_s": {"import": 1.0, "images": 0.1, "build": 0.1, "first steps": 0.1},
        "memory": [["host", "weights", 1_000_000]],
        "peak_host_bytes": 10_000_000,
        "peak_device_bytes": None,
        "jit_compile": loop != "fit",
        "model_name": "relu_mlp",
        "device_name": "Scripted CPU",
        "stack": [],
    }


def _fork(channel: _Channel, message: dict[str, Any]) -> None:
    template = os.getpid()
    pid = os.fork()
    if pid == 0:
        end_with_parent(fork_of=template)
        _report(channel, message)
        os._exit(0)
    channel.emit("forked", pid=pid)
    _, status = os.waitpid(pid, 0)
    channel.emit("exit", code=os.waitstatus_to_exitcode(status))


def main() -> None:
    """Serve launches until stdin ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--channel", type=int, required=True)
    arguments, _ = parser.parse_known_args()
    channel = _Channel(arguments.channel)
    end_with_parent()
    time.sleep(_MOMENT_S)
    channel.emit("ready")
    for line in sys.stdin.buffer:
        message = json.loads(line)
        if message["op"] == "go_on":
            # Meant for a launch that has died in its pause.
            continue
        if not message["fork"]:
            _report(channel, message)
            return
        _fork(channel, message)


if __name__ == "__main__":
    main()
