"""A worker that speaks the protocol and reports what a script tells it to.

The script is a JSON file named by FAKE_WORKER_SCRIPT: a list with a launch each, in order
of the requests, every one with `rounds` (seconds), and optionally `score` (of every round),
`result` (fields), `failure` (status, reason), `twice` (the result), `late` (the launch ends before
its template tells of it), `linger` (a line that the template sends once the launch has ended), and,
after the rounds, `send` (lines as they are), `stop` (a signal to the template), `hang`, `exit` (a
code, without a result) or `die` (a signal). After the last launch the script begins again.
`ranks` holds what another rank than 0 does otherwise, by its number, and `replicas` what a case of
so many does; each rank counts its launches itself. `wait` (seconds) comes before the first round,
and what it `says` is printed.
`once` holds what the first attempt of a launch does otherwise.
`largest` fails a launch of a larger batch for lack of memory. To `inspect` answers FAKE_FACTS,
JSON with the fields of a `WorkFacts` by model, or how it misbehaves. With `pauses` it stands still
before each round, unless FAKE_NO_PAUSES says that it is of an earlier revision. FAKE_SLOWER
stretches the seconds, FAKE_DROP lowers the accuracies, and FAKE_FAILURE fails each launch: what one
side of a duel does. So do `slower`, `drop` and `failure` of fake.json in the folder that a request
names: what a commit does.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from bench.schema.requests import CeilingsRequest
from bench.worker.serve import end_with_parent


def emit(channel: io.FileIO, **message: Any) -> None:
    channel.write(json.dumps(message).encode() + b"\n")


def report(channel: io.FileIO, script: dict[str, Any], message: dict[str, Any]) -> None:
    request = message["request"]
    samples = script.get("samples", 48_000)
    slower = float(script.get("slower", os.environ.get("FAKE_SLOWER", "1")))
    drop = float(script.get("drop", os.environ.get("FAKE_DROP", "0")))
    if "FAKE_FAILURE" in os.environ:
        emit(channel, kind="failure", status="failed", reason=os.environ["FAKE_FAILURE"])
        return
    if request["case"]["batch_size"] > script.get("largest", 10**9):
        emit(channel, kind="failure", status="failed", reason="OOM when allocating tensor")
        return
    if "says" in script:
        sys.stdout.write(f"{script['says']}\n")
        sys.stdout.flush()
    time.sleep(script.get("wait", 0))
    for number, seconds in enumerate(script["rounds"], 1):
        documented = number <= request["epochs"]
        if message["pauses"] and "FAKE_NO_PAUSES" not in os.environ:
            emit(channel, kind="pause")
            if not sys.stdin.buffer.readline():
                os._exit(1)
        emit(
            channel,
            kind="round",
            round=number,
            samples=samples,
            updates=-(-samples // request["case"]["batch_size"]),
            seconds=seconds * slower,
            between_epochs_s=0.5,
            evaluation_s=0.25 if documented else None,
            train_loss=1.0 / number,
            train_score=script.get("score", 0.80 + number / 100),
            val_loss=2.0 / number if documented else None,
            val_score=script.get("score", 0.81 + number / 100) - drop if documented else None,
        )
    misbehave(channel, script)
    if "failure" in script:
        emit(channel, kind="failure", **script["failure"])
        return
    result = {
        "parameters": 79_510,
        "jit_compile": False,
        "warmup_s": 1.5,
        "test_loss": 0.5,
        "after_training_s": 1.0,
        "test_score": 0.875,
        "peak_host_memory_bytes": 1_000_000,
        "warnings": [],
    }
    for _ in range(2 if script.get("twice") else 1):
        emit(channel, kind="result", **{**result, **script.get("result", {})})


def misbehave(channel: io.FileIO, script: dict[str, Any]) -> None:
    for line in script.get("send", ()):
        channel.write(line.encode() + b"\n")
    if "stop" in script:
        os.kill(os.getppid(), getattr(signal, script["stop"]))
    if script.get("hang"):
        time.sleep(3600)
    if "exit" in script:
        os._exit(script["exit"])
    if "die" in script:
        os.kill(os.getpid(), getattr(signal, script["die"]))


def inspect(channel: io.FileIO, models: list[str]) -> None:
    known = json.loads(os.environ["FAKE_FACTS"])
    for model in models:
        misbehave(channel, known[model])
    emit(channel, kind="result", facts=[{"model": model, **known[model]} for model in models])


def ceilings(request: dict[str, Any]) -> dict[str, Any]:
    """100 GFLOP/s plain and 90 through XLA, 50 GB/s in the cache and 20 beyond."""
    return {
        **{name: request[name] for name in ("device", "precision", "threads", "moment")},
        "matmul_flops_per_s": {"plain": 1e11, "xla": 9e10},
        "bandwidth_bytes_per_s": {"1048576": 5e10, "1073741824": 2e10},
        "products_s": {"784x100-100x10-b32": 0.25},
    }


def next_script(file: Path, request: dict[str, Any]) -> dict[str, Any]:
    rank = request.get("rank", 0)
    counter = file.with_suffix(f".count{rank or ''}")
    number = int(counter.read_text()) if counter.exists() else 0
    counter.write_text(str(number + 1))
    scripts = json.loads(file.read_text())
    script = dict(scripts[number % len(scripts)])
    replicas = request.get("case", {}).get("replicas", 1)
    for axis, value in (("ranks", rank), ("replicas", replicas)):
        script |= script.get(axis, {}).get(str(value), {})
    once = script.pop("once", {})
    return script | once if request.get("attempt") == 1 else script


def of_commit(folder: str | None) -> dict[str, Any]:
    file = Path(folder or os.devnull) / "fake.json"
    return dict(json.loads(file.read_text())) if file.is_file() else {}


def answer(channel: io.FileIO, script: dict[str, Any], message: dict[str, Any]) -> None:
    if message["op"] == "inspect":
        inspect(channel, message["request"]["models"])
    else:
        report(channel, script, message)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--channel", type=int)
    parser.add_argument("--data")
    channel = os.fdopen(parser.parse_args().channel, "wb", buffering=0)
    file = Path(os.environ.get("FAKE_WORKER_SCRIPT", os.devnull))
    end_with_parent()
    emit(channel, kind="ready")
    for line in sys.stdin.buffer:
        message = json.loads(line)
        if message["op"] == "ceilings":
            CeilingsRequest(**message["request"])
            emit(channel, kind="result", ceilings=ceilings(message["request"]))
            if not message["fork"]:
                return
            emit(channel, kind="exit", code=0)
            continue
        script = {} if message["op"] == "inspect" else next_script(file, message["request"])
        script |= of_commit(message.get("folder"))
        if not message["fork"]:
            answer(channel, script, message)
            return
        template = os.getpid()
        pid = os.fork()
        if pid == 0:
            end_with_parent(fork_of=template)
            answer(channel, script, message)
            os._exit(0)
        if script.get("late"):
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        emit(channel, kind="forked", pid=pid)
        _, status = os.waitpid(pid, 0)
        if "linger" in script:
            channel.write(script["linger"].encode() + b"\n")
        emit(channel, kind="exit", code=os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
