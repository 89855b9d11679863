"""The peers: the suite's loops with each framework, and the same training by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from bench.backends import DEFAULT, KNOWN
from bench.machine.nvml import Inventory
from bench.machine.placement import default_backend, skip_reason
from bench.schema.case import NETWORK_LOOPS, Case
from bench.schema.matrix import parse_axis
from fmnist_models.errors import UserError

# The end of a peer's name for the same training without computing the accuracy.
LOSS_ONLY = "_loss"
SKLEARN = "sklearn"
# The framework of a peer whose products are those of NumPy's BLAS.
NUMPY = "numpy"
# Frameworks that are no backend of Keras.
OTHERS = (SKLEARN, NUMPY)
_ON_CPU: Mapping[str, str] = {SKLEARN: "scikit-learn", NUMPY: "NumPy"}
_NEEDS: Mapping[str, str] = {
    "optax": "pip install .[peers]",
    "sklearn": "pip install scikit-learn",
}


@dataclass(frozen=True, slots=True)
class Peer:
    """One way to train relu_mlp.

    Attributes:
        framework: a backend of Keras, `sklearn` or `numpy`.
        loop: the loop of the suite; empty for another program.
        module: the module of `bench.peers`; empty for a loop.
        keras: trains each documented network, optimizer and precision.
        packages: needed beside the framework, by their import names.
        usual: measured where --peers names none.
    """

    framework: str
    loop: str = ""
    module: str = ""
    keras: bool = False
    packages: tuple[str, ...] = ()
    usual: bool = True

    @property
    def distributions(self) -> tuple[str, ...]:
        """The packages whose versions matter, as `pip` names them."""
        if self.framework == SKLEARN:
            return ("scikit-learn", "numpy")
        return (self.framework, *(("keras",) if self.keras else ()), *self.packages)

    def case(self, like: Case) -> Case:
        """A case like the given one, in whose environment this peer trains."""
        backend = self.framework if self.framework in KNOWN else default_backend() or DEFAULT
        return Case(
            like.model,
            like.optimizer,
            self.loop or like.loop,
            like.device,
            like.batch_size,
            like.precision,
            like.threads,
            backend,
        )

    def why_not(self, like: Case, machine: Inventory) -> str | None:
        """Why it cannot train a case like the given one here; None where it can."""
        if not self.keras and (like.model, like.optimizer, like.precision) != (
            "relu_mlp",
            "adam",
            "float32",
        ):
            return "trains relu_mlp with adam in float32 only"
        if self.framework in OTHERS and like.device != "cpu":
            return f"{_ON_CPU[self.framework]} trains on a CPU only"
        missing = [name for name in self.packages if find_spec(name) is None]
        if missing:
            return f"{missing[0]} is not installed: {_NEEDS[missing[0]]}"
        return None if self.framework in OTHERS else skip_reason(self.case(like), machine)


def _peers() -> dict[str, Peer]:
    loops = {
        loop if backend == DEFAULT else f"{loop}-{backend}": Peer(backend, loop, keras=True)
        for backend in KNOWN
        for loop in reversed(NETWORK_LOOPS)
    }
    others = {
        "tensorflow_function": Peer("tensorflow", module="tensorflow_function"),
        "tensorflow_xla": Peer("tensorflow", module="tensorflow_xla"),
        "jax_scan": Peer("jax", module="jax_scan", packages=("optax",)),
        "torch_eager": Peer("torch", module="torch_eager"),
        "torch_compiled": Peer("torch", module="torch_compiled"),
        "blas": Peer(NUMPY, module="blas"),
        SKLEARN: Peer(SKLEARN, module="sklearn_mlp", packages=(SKLEARN,)),
        "bare_fit": Peer("tensorflow", module="bare_fit", keras=True, usual=False),
        "keras_sketch": Peer("tensorflow", module="keras_sketch", keras=True, usual=False),
    }
    return loops | others


PEERS: Mapping[str, Peer] = _peers()
# Every name that --peers takes. What scikit-learn trains has no accuracy.
NAMES: Mapping[str, Peer] = {
    name + end: peer
    for end in ("", LOSS_ONLY)
    for name, peer in PEERS.items()
    if peer.framework != SKLEARN or end
}


def same_work(name: str, other: str) -> bool:
    """Whether both compute the accuracy, or neither does."""
    return name.endswith(LOSS_ONLY) == other.endswith(LOSS_ONLY)


def by_hand(name: str) -> list[str]:
    """The peers by hand of the framework with which Keras trains in `name`, with the same work."""
    of = NAMES[name]
    return [
        other
        for other, peer in NAMES.items()
        if peer.framework == of.framework and not peer.keras and same_work(name, other)
    ]


def chosen(
    text: str | None, like: Case, machine: Inventory
) -> tuple[tuple[str, ...], Sequence[str]]:
    """(the peers of a comma-separated list, each once, what was left out with its reason).

    Without a list these are all usual peers that can train here.

    Raises:
        UserError: a name is unknown or empty; a peer that was named cannot train here, or none
            can.
    """
    if text is None:
        names = tuple(name for name, peer in NAMES.items() if peer.usual)
    else:
        names = parse_axis("peers", text)
    left_out, found = [], []
    for name in names:
        if name == SKLEARN:
            raise UserError(
                f"peer {name!r}: it computes no accuracy while it trains: name {name}{LOSS_ONLY}"
            )
        if name not in NAMES:
            raise UserError(f"unknown peer {name!r}: choose from {', '.join(NAMES)}")
        reason = NAMES[name].why_not(like, machine)
        if reason is None:
            found.append(name)
        elif text is not None:
            raise UserError(f"peer {name!r}: {reason}; or leave it out of --peers")
        else:
            left_out.append(f"{name}: {reason}")
    if not found:
        raise UserError(f"no peer can train here: {left_out[0]}")
    return tuple(found), left_out
