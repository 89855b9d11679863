"""A case: one point of the matrix, and the values that each axis knows."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, fields, replace
from typing import Any

from bench.backends import BACKENDS, DEFAULT
from bench.schema.bounds import Count, Plain, Text
from fmnist_models.architectures import NETWORKS
from fmnist_models.errors import UserError
from fmnist_models.optimizers import OWN, refuse_unknown
from fmnist_models.own import FUNCTION

LOGISTIC = "logistic"
SKLEARN_LOOP = "sklearn"
MODELS: tuple[str, ...] = (*NETWORKS, LOGISTIC)
NETWORK_LOOPS: tuple[str, ...] = ("fit", "multistep", "compiled")
LOOPS: tuple[str, ...] = (*NETWORK_LOOPS, SKLEARN_LOOP)
PRECISIONS: tuple[str, ...] = ("float32", "tf32", "mixed_bfloat16", "mixed_float16")
LOGISTIC_FIELDS: dict[str, Any] = {
    "optimizer": "",
    "loop": SKLEARN_LOOP,
    "device": "cpu",
    "batch_size": 1,
    "precision": "float64",
    "threads": None,
    "backend": SKLEARN_LOOP,
    "replicas": 1,
    "processes": 1,
}
DEVICE_PATTERN = re.compile(r"cpu|gpu(:\d+)?")
# A file name has at most 255 bytes; the rest is for numbers and endings.
_LONGEST_FILE_NAME = 200
# What a batch size is with several replicas: of all together, or a multiple of the share of one.
STRONG, WEAK = SCALINGS = ("strong", "weak")
# Larger numbers are typing errors.
MOST_REPLICAS = 4096


@dataclass(frozen=True, slots=True, order=True)
class Case(Plain):
    """One combination of what is trained and how; its values are checked when it is made.

    Attributes:
        model: a name of `MODELS`, or the user's own function, as `module:function` or
            `path/to/file.py:function`.
        optimizer: a name, a function of the user's own, or `OWN`.
        device: `cpu`, `gpu` or `gpu:N`.
        batch_size: samples a step, over all replicas.
        threads: threads of one operation on the CPU; None for the framework's default.
        replicas: devices that each train a share of every batch.
        processes: 1, where one process drives all replicas, or a process for each.

    Raises:
        UserError: a field holds an unknown value, or one out of range.
    """

    model: Text
    optimizer: Text
    loop: Text
    device: Text = "cpu"
    batch_size: Count = 32
    precision: Text = "float32"
    threads: Count | None = None
    backend: Text = DEFAULT
    replicas: Count = 1
    processes: Count = 1

    def __post_init__(self) -> None:
        if self.model not in MODELS and not FUNCTION.fullmatch(self.model):
            raise UserError(
                f"unknown model {self.model!r}: choose from {', '.join(MODELS)}, "
                "or name your own function as module:function or path/to/file.py:function"
            )
        if not DEVICE_PATTERN.fullmatch(self.device):
            raise UserError(f"unknown device {self.device!r}: write cpu, gpu or gpu:N")
        if not isinstance(self.batch_size, int) or self.batch_size < 1:
            raise UserError(f"batch size {self.batch_size!r}: must be a whole number of at least 1")
        if self.threads is not None and not 1 <= self.threads <= 4096:
            raise UserError(f"threads {self.threads!r}: must be between 1 and 4096")
        if self.model == LOGISTIC:
            for field, only in LOGISTIC_FIELDS.items():
                if getattr(self, field) != only:
                    raise UserError(
                        f"{field} {getattr(self, field)!r}: the model {LOGISTIC!r} has "
                        f"one form only, with {field} {only!r}"
                    )
            return
        self._refuse_wrong_spread()
        refuse_unknown(self.optimizer)
        if self.optimizer == OWN and self.model in MODELS:
            raise UserError(
                f"optimizer {OWN!r}: it is that of a compiled model of your own, and {self.model} "
                "has none: name another"
            )
        _one_of("loop", self.loop, NETWORK_LOOPS)
        _one_of("precision", self.precision, PRECISIONS)
        _one_of("backend", self.backend, BACKENDS)

    def _refuse_wrong_spread(self) -> None:
        if not 1 <= self.replicas <= MOST_REPLICAS:
            raise UserError(f"replicas {self.replicas!r}: must be between 1 and {MOST_REPLICAS}")
        if self.processes not in (1, self.replicas):
            raise UserError(
                f"processes {self.processes!r}: must be 1, or one for each of {self.replicas} "
                "replicas"
            )
        if self.batch_size % self.replicas:
            raise UserError(
                f"batch size {self.batch_size}: it does not divide by {self.replicas} replicas: "
                f"name a multiple of {self.replicas} (run --scaling weak takes the share of each)"
            )
        if self.replicas > 1 and ":" in self.device:
            raise UserError(
                f"device {self.device!r}: it is one device, and {self.replicas} replicas take the "
                "first ones: name gpu, and choose them by CUDA_VISIBLE_DEVICES"
            )

    @property
    def id(self) -> str:
        """A readable name made of the fields alone: `relu_mlp-adam-compiled-cpu-b32-float32`.

        Threads, backend, replicas and processes are appended where they are not the default.
        """
        parts = [self.model, self.optimizer, self.loop, self.device, f"b{self.batch_size}"]
        parts.append(self.precision)
        if self.threads is not None:
            parts.append(f"t{self.threads}")
        if self.backend not in (DEFAULT, SKLEARN_LOOP):
            parts.append(self.backend)
        if self.replicas > 1:
            parts.append(f"r{self.replicas}")
        if self.processes > 1:
            parts.append(f"p{self.processes}")
        return "-".join(part for part in parts if part)

    @property
    def setting(self) -> str:
        """Device, precision, and threads and backend where they are not the default, as text."""
        parts = [self.device, self.precision, str(self.threads or "")]
        parts += [] if self.backend == DEFAULT else [self.backend]
        return "-".join(filter(None, parts))

    @property
    def has_ceilings(self) -> bool:
        """Whether its speed is set against the machine's ceilings, which are of one device."""
        return self.loop != SKLEARN_LOOP and self.replicas == 1

    def alone(self, scaling: str) -> Case:
        """The case of one replica that this one is compared with.

        Args:
            scaling: `weak`, where it has the share of one replica for its batch, or `strong`.
        """
        share = self.batch_size // self.replicas if scaling == WEAK else self.batch_size
        return replace(self, replicas=1, processes=1, batch_size=share)

    @property
    def own(self) -> tuple[str, ...]:
        """The user's own functions that it names: of model and optimizer."""
        return tuple(name for name in (self.model, self.optimizer) if FUNCTION.fullmatch(name))

    @property
    def file_name(self) -> str:
        """The id as part of a file name: characters that every system takes, at most 200 bytes."""
        name = re.sub(r"[^\w.-]", "_", self.id)
        if len(name.encode()) <= _LONGEST_FILE_NAME:
            return name
        return f"{name[:40]}-{hashlib.sha256(self.id.encode()).hexdigest()[:12]}"


# The axes of the matrix, in the order of a case's fields.
AXES: tuple[str, ...] = tuple(field.name for field in fields(Case))


def logistic_case() -> Case:
    """The scikit-learn baseline: one sample an update, float64, on the CPU."""
    return Case(LOGISTIC, **LOGISTIC_FIELDS)


def _one_of(axis: str, value: str, known: Any) -> None:
    if value not in known:
        raise UserError(f"unknown {axis} {value!r}: choose from {', '.join(known)}")
