"""The machine on which evidence is made, and the processes that it starts there."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from signal import SIGINT
from typing import Any

from bench.evidence.gpu.records import REHEARSAL, TooShort
from bench.launch.origin import child_command
from bench.machine.devices import inventory, present
from bench.machine.nvml import Gpu, Inventory
from bench.machine.placement import child_environment
from bench.schema.case import Case
from bench.schema.errors import ExitCode
from fmnist_models import dataset
from fmnist_models.errors import UserError

# A rehearsal has two virtual CPUs with JAX, so that something can be on the wrong one.
_VIRTUAL = "--xla_force_host_platform_device_count=2"
# A child that is silent for so long hangs; for a shorter time it may only lack time.
_HUNG_S = 100.0
# A command that is told to stop writes what it has.
_ENDING_S = 20.0
# Images of a rehearsal.
_FEW = 1_000


@dataclass(frozen=True, slots=True)
class Box:
    """The machine.

    Attributes:
        machine: its GPUs.
        gpu: the one that is used; None for a rehearsal.
        device: as a case spells it.
        folder: where records, logs and the folders of the commands are.
        data: a folder of images; None for all of them.
    """

    machine: Inventory
    gpu: Gpu | None
    device: str
    folder: Path
    data: Path | None = None

    @property
    def label(self) -> str:
        """The GPU's name, or that this is a rehearsal."""
        return REHEARSAL if self.gpu is None else self.gpu.name

    def environment(self) -> dict[str, str]:
        """The environment of the suite's commands."""
        own = dict(os.environ)
        # The device's columns of tables are read, not seen.
        own["COLUMNS"] = "200"
        if self.gpu is None:
            own["CUDA_VISIBLE_DEVICES"] = "-1"
            own["XLA_FLAGS"] = f"{own.get('XLA_FLAGS', '')} {_VIRTUAL}".strip()
        return own

    def command(
        self, name: str, words: Sequence[str], limit_s: float, **changes: str
    ) -> tuple[int, str]:
        """(exit code, last line) of `fmnist-bench WORDS`, whose output goes to logs/NAME.txt.

        The code of one that was told to stop is that of an interrupted one.

        Args:
            name: of the log.
            words: the verb and its options.
            limit_s: seconds until it is told to stop, as by Ctrl-C.
            changes: variables of its environment.
        """
        log = self.folder / "logs" / f"{name}.txt"
        log.parent.mkdir(exist_ok=True)
        with log.open("wb") as out:
            process = subprocess.Popen(
                [*child_command("bench"), *words],
                cwd=self.folder,
                env={**self.environment(), **changes},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
            try:
                code = process.wait(limit_s)
            except subprocess.TimeoutExpired:
                _stop(process)
                code = ExitCode.INTERRUPTED
        lines = [line for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
        return code, lines[-1].strip() if lines else "it printed nothing"


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Tell a command to stop, and kill it where it does not."""
    process.send_signal(SIGINT)
    try:
        process.wait(_ENDING_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def this_box(folder: Path) -> Box:
    """The first GPU that NVML lists and this process may use; without one a rehearsal."""
    machine = inventory()
    if not machine.gpus:
        return Box(machine, None, "cpu", folder)
    return Box(machine, machine.gpus[0], present(machine)[1], folder)


def rehearsed(box: Box) -> Box:
    """The same machine with few images, which is enough where no figure counts."""
    images = dataset.load()
    data = box.folder / "data"
    dataset.write(
        data,
        images.train_images[:_FEW],
        images.train_labels[:_FEW],
        images.test_images[:_FEW],
        images.test_labels[:_FEW],
    )
    return replace(box, data=data)


class Asked:
    """A `bench.evidence.gpu.child`, restricted to the device like a case's worker.

    Args:
        backend: the framework.
        box: the machine.
        left_s: returns the seconds that an answer may take.
    """

    def __init__(self, backend: str, box: Box, left_s: Callable[[], float]) -> None:
        self._left_s = left_s
        case = Case("relu_mlp", "adam", "fit", box.device, backend=backend)
        environ = child_environment(case, box.machine, box.environment())
        self.uuid = environ["CUDA_VISIBLE_DEVICES"]
        self._backend = backend
        log = box.folder / "logs" / f"child-{backend}.txt"
        log.parent.mkdir(exist_ok=True)
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [*child_command("bench.evidence.gpu.child"), backend, box.device],
                env=environ,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self.pid = self._process.pid

    def ask(self, op: str, fault: bool = False, **words: Any) -> Mapping[str, Any]:
        """Send one request, and return its answer."""
        self.begin(op, fault, **words)
        return self.answer()

    def begin(self, op: str, fault: bool = False, **words: Any) -> None:
        """Send a request.

        Raises:
            UserError: the child has ended.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"op": op, "fault": fault, **words}) + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise UserError(f"the child of {self._backend} has ended: see its log") from error

    def answer(self) -> Mapping[str, Any]:
        """Wait for the child's answer.

        Raises:
            TooShort: there was none in the time that was left.
            UserError: it ended or hung without one, or the operation failed.
        """
        assert self._process.stdout is not None
        limit_s = max(1.0, self._left_s())
        watchdog = threading.Timer(limit_s, self._process.kill)
        started = time.monotonic()
        watchdog.start()
        line = self._process.stdout.readline()
        watchdog.cancel()
        if not line:
            code = self._process.wait()
            if time.monotonic() - started >= limit_s:
                silent = UserError if limit_s >= _HUNG_S else TooShort
                raise silent(f"the child of {self._backend} gave no answer in {limit_s:.0f} s")
            raise UserError(f"the child of {self._backend} ended with code {code}: see its log")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise UserError(str(answer["error"]))
        return answer

    def close(self) -> None:
        """End the child."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(_ENDING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
