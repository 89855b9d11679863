"""The facts of a machine and its software, and for what two records must agree in each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

Environment = Mapping[str, Any]
# The texts of a fact that an earlier revision did not record, and of one that has no value.
ABSENT, UNKNOWN = "not recorded", "not known"


class Purpose(Enum):
    """Why two records are compared."""

    RESUME = "resume"  # a run or a side of a duel is resumed
    BASELINE = "baseline"  # stored runs, and the candidate that is checked against them
    CONFIRM = "confirm"  # a stored run, and the side of a duel that measures it again
    COMPARE = "compare"  # runs of any machines
    NODES = "nodes"  # the nodes of a fleet, which may have other hardware
    THREADS = "threads"  # runs on one line of the page's chart of threads
    SHOWN = "shown"  # need not agree: `compare` and the page show the differences
    HISTORY = "history"  # a change between two runs may change the speed, and is not of the code


_RESUME, _BASELINE, _CONFIRM = Purpose.RESUME, Purpose.BASELINE, Purpose.CONFIRM
_COMPARE, _THREADS, _SHOWN = Purpose.COMPARE, Purpose.THREADS, Purpose.SHOWN
_NODES, _HISTORY = Purpose.NODES, Purpose.HISTORY
# For what a fact of the machine counts, and one of the software that is measured.
_MACHINE = (_RESUME, _CONFIRM, _THREADS, _SHOWN, _HISTORY)
_SOFTWARE = (_RESUME, _NODES, _CONFIRM, _THREADS, _HISTORY)


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact of environment.json.

    Attributes:
        name: its name in a table.
        path: the keys that lead to it.
        purposes: those for which it must agree, or is shown.
        words: the words before its value in a sentence; empty for the name.
        of: takes from the value the part that is compared; None for all of it.
        absent: its text where the record has no such key.
    """

    name: str
    path: tuple[str, ...]
    purposes: frozenset[Purpose]
    words: str = ""
    of: Callable[[Any], Any] | None = None
    absent: str = ABSENT

    def text(self, environment: Environment) -> str:
        """The fact as text."""
        value: Any = environment
        for key in self.path:
            if not isinstance(value, Mapping) or key not in value:
                return self.absent
            value = value[key]
        return _as_text(value if self.of is None or value is None else self.of(value))


def _fact(name: str, path: str, *purposes: Purpose, **more: Any) -> Fact:
    return Fact(name, tuple(path.split(".")), frozenset(purposes), **more)


def _uuids(gpus: Sequence[Any]) -> Any:
    """The UUIDs of a list of GPUs; `not recorded` where one has none."""
    found = [gpu.get("uuid") if isinstance(gpu, Mapping) else None for gpu in gpus]
    return found if all(found) else ABSENT


def _hardware(nodes: Sequence[Any]) -> Any:
    """The digests of the hardware of nodes."""
    return [node.get("hardware") for node in nodes]


def _gib(size: float) -> int:
    """Bytes in whole GiB: each start of a kernel keeps other bytes for itself."""
    return round(size / 2**30)


# Not formatted, so that each fact is on one line.
FACTS: tuple[Fact, ...] = (
    _fact("data", "dataset_digest", _RESUME, _NODES, _BASELINE, _COMPARE, words="data of SHA-256"),
    _fact("CPU", "cpu.model", *_MACHINE, _BASELINE, words="the CPU"),
    _fact("physical cores", "cpu.cores_physical", _SHOWN, _HISTORY),
    _fact("logical cores", "cpu.cores_logical", *_MACHINE, _BASELINE),
    _fact("allowed cores", "cpu.affinity", _RESUME, _THREADS, _SHOWN),
    _fact("number of allowed cores", "cpu.affinity", _BASELINE, _CONFIRM, _HISTORY, of=len,
          words="a number of allowed cores of"),
    _fact("CPU quota", "cpu.cgroup_quota_cpus", *_MACHINE, _BASELINE, words="a CPU quota of"),
    _fact("memory in bytes", "memory_bytes", _SHOWN),
    _fact("memory in GiB", "memory_bytes", _HISTORY, of=_gib),
    _fact("GPUs", "gpus", *_MACHINE, _BASELINE, words="the GPUs"),
    # A run must not be resumed on another card of the same model.
    _fact("UUIDs of the GPUs", "gpus", _RESUME, _HISTORY, of=_uuids),
    # Of a run across several; a node may be replaced by one that is alike.
    _fact("nodes", "nodes", _RESUME, _CONFIRM, _BASELINE, _HISTORY, of=_hardware,
          absent="one machine"),
    _fact("driver", "driver_version", *_MACHINE, words="the driver"),
    _fact("operating system", "os.name", _SHOWN, _HISTORY),
    _fact("kernel", "os.kernel", _CONFIRM, _SHOWN, _HISTORY),
    _fact("Python", "python.version", *_SOFTWARE, _SHOWN),
    _fact("TensorFlow", "versions.tensorflow", *_SOFTWARE, _SHOWN),
    _fact("JAX", "versions.jax", *_SOFTWARE, _SHOWN),
    _fact("jaxlib", "versions.jaxlib", *_SOFTWARE),
    _fact("PyTorch", "versions.torch", *_SOFTWARE, _SHOWN),
    _fact("Keras", "versions.keras", *_SOFTWARE, _SHOWN),
    _fact("NumPy", "versions.numpy", *_SOFTWARE, _SHOWN),
    _fact("scikit-learn", "versions.scikit-learn", *_SOFTWARE, _SHOWN),
    _fact("cuDNN", "versions.nvidia-cudnn", *_SOFTWARE),
    _fact("CUDA runtime", "versions.nvidia-cuda-runtime", *_SOFTWARE),
    _fact("variables", "variables", *_MACHINE, words="the variables"),
    _fact("suite", "versions.fmnist-bench", _RESUME, words="fmnist-bench"),
    _fact("revision", "git.revision", _RESUME, _SHOWN, words="the suite's revision"),
    _fact("changes", "git.dirty", _RESUME, words="changes of the suite since its revision:"),
)  # fmt: skip


def facts(purpose: Purpose) -> tuple[Fact, ...]:
    """The facts that count for `purpose`, in the order in which they are shown."""
    return tuple(fact for fact in FACTS if purpose in fact.purposes)


def _as_text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={setting}" for name, setting in value.items()) or "none"
    if isinstance(value, list):
        names = [
            str(item.get("name")) if isinstance(item, Mapping) else str(item) for item in value
        ]
        return ", ".join(names) or "none"
    return UNKNOWN if value is None else str(value)
