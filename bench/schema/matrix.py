"""The named matrices, and the axes that a user puts in place of theirs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product

from bench.backends import BACKENDS, DEFAULT, KNOWN
from bench.schema.case import (
    DEVICE_PATTERN,
    LOGISTIC,
    LOOPS,
    MOST_REPLICAS,
    PRECISIONS,
    SKLEARN_LOOP,
    WEAK,
    Case,
    logistic_case,
)
from bench.schema.workload import WorkFacts
from fmnist_models.architectures import NETWORKS
from fmnist_models.errors import UserError
from fmnist_models.optimizers import OPTIMIZERS, OWN, split_names

BATCH_SIZES: tuple[int, ...] = (32, 128, 512, 2048, 8192)
# Larger values are typing errors; a process that starts more threads than the system allows dies.
MOST_BATCH = 10_000_000
_MOST: Mapping[str, int] = {
    "batch_sizes": MOST_BATCH,
    "threads": 4096,
    "replicas": MOST_REPLICAS,
}
# The number of replicas that means all devices.
ALL = "all"
# How several replicas are driven: by one process, or by one for each.
SPREADS = ("one", "each")
SWEPT_MODEL = "relu_mlp"
SWEPT_OPTIMIZER = "adam"


@dataclass(frozen=True, slots=True)
class Axes:
    """A product of axes; None where the matrix decides.

    Attributes:
        replicas: numbers, or `ALL`, for which a number must be put before there are cases.
        spread: how several replicas are driven, `one` or `each`; None for each backend's own.
        scaling: `weak` where batch sizes are those of each replica.
    """

    models: tuple[str, ...] | None = None
    optimizers: tuple[str, ...] | None = None
    loops: tuple[str, ...] | None = None
    devices: tuple[str, ...] | None = None
    batch_sizes: tuple[int, ...] | None = None
    precisions: tuple[str, ...] | None = None
    threads: tuple[int | None, ...] | None = None
    backends: tuple[str, ...] | None = None
    replicas: tuple[int | str, ...] | None = None
    spread: str | None = None
    scaling: str | None = None

    def over(self, other: Axes) -> Axes:
        """`other`, with each axis that `self` gives put in place of its own."""
        given = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(other, **{name: axis for name, axis in given.items() if axis is not None})

    def cases(self) -> Iterator[Case]:
        """The cases of the product of the axes.

        The logistic baseline has one form only. It comes once, where its loop and the CPU are
        among the axes.

        Raises:
            UserError: an axis holds an unknown value.
        """
        for model in self.models or ():
            if model == LOGISTIC:
                if SKLEARN_LOOP in (self.loops or ()) and "cpu" in (self.devices or ("cpu",)):
                    yield logistic_case()
                continue
            for optimizer, loop, device, size, precision, threads, backend, count in product(
                self.optimizers or (),
                [loop for loop in self.loops or () if loop != SKLEARN_LOOP],
                self.devices or ("cpu",),
                self.batch_sizes or (32,),
                self.precisions or ("float32",),
                self.threads or (None,),
                self.backends or (DEFAULT,),
                self.replicas or (1,),
            ):
                replicas = int(count)
                batch_size = size * replicas if self.scaling == WEAK else size
                setting = (device, batch_size, precision, threads, backend)
                processes = self.processes(backend, replicas)
                yield Case(model, optimizer, loop, *setting, replicas, processes)

    def processes(self, backend: str, replicas: int) -> int:
        """The number of processes of a case of a backend and a number of replicas."""
        own = KNOWN[backend].spreads[0] if backend in KNOWN else "one"
        return replicas if (self.spread or own) == "each" else 1


_NETWORKS = tuple(NETWORKS)
_OPTIMIZERS = tuple(OPTIMIZERS)
_FIT_AND_COMPILED = ("fit", "compiled")
_SWEPT = Axes((SWEPT_MODEL,), (SWEPT_OPTIMIZER,), _FIT_AND_COMPILED)

MATRICES: Mapping[str, tuple[str, tuple[Axes, ...]]] = {
    "documented": (
        "every documented model with every optimizer, and sweeps of batch size and "
        f"precision on {SWEPT_MODEL}/{SWEPT_OPTIMIZER}",
        (
            Axes((*_NETWORKS, LOGISTIC), _OPTIMIZERS, (*_FIT_AND_COMPILED, SKLEARN_LOOP)),
            replace(_SWEPT, batch_sizes=BATCH_SIZES),
            replace(_SWEPT, precisions=PRECISIONS),
        ),
    ),
    "quick": (
        "each network with adam in fit and compiled, batch 32, and compiled at batch 512",
        (
            Axes(_NETWORKS, ("adam",), _FIT_AND_COMPILED),
            Axes((SWEPT_MODEL,), (SWEPT_OPTIMIZER,), ("compiled",), batch_sizes=(512,)),
        ),
    ),
    "full": (
        "the product of model, optimizer, loop, device, batch size and precision",
        (
            Axes(
                (*_NETWORKS, LOGISTIC),
                _OPTIMIZERS,
                LOOPS,
                batch_sizes=BATCH_SIZES,
                precisions=PRECISIONS,
            ),
        ),
    ),
}
# What a duel measures where the user names nothing else.
DUEL = "default of a duel"
DUEL_AXES = Axes((SWEPT_MODEL,), (SWEPT_OPTIMIZER,), ("compiled",), ("cpu",), (512,))
# Settings that a matrix changes where the user gives no option.
EPOCHS: Mapping[str, int] = {"quick": 2, DUEL: 2}
LAUNCHES: Mapping[str, int] = {"quick": 1, DUEL: 1}


def expand(
    matrix: str, given: Axes, present: Sequence[str], works: Sequence[WorkFacts] = ()
) -> list[Case]:
    """The cases of a named matrix, each once, in a readable order.

    Args:
        matrix: a name of `MATRICES`, or `DUEL`.
        given: axes that replace those of the matrix.
        present: devices of this machine, taken where `given` names none.
        works: what is known of the user's own models.

    Raises:
        UserError: an unknown matrix, an unknown value, an optimizer that a model cannot have, or
            no case at all.
    """
    if matrix not in (*MATRICES, DUEL):
        raise UserError(f"unknown matrix {matrix!r}: choose from {', '.join(MATRICES)}")
    chosen = given.over(Axes(devices=tuple(present)))
    cases: dict[Case, None] = {}
    known = {work.model: work for work in works}
    for axes in (DUEL_AXES,) if matrix == DUEL else MATRICES[matrix][1]:
        whole = chosen.over(axes)
        for model in whole.models or ():
            of_model = _of_work(replace(whole, models=(model,)), given, known.get(model))
            cases |= dict.fromkeys(of_model.cases())
    if not cases:
        raise UserError("no case is left: widen --models, --optimizers or --loops")
    return list(cases)


def _of_work(axes: Axes, given: Axes, work: WorkFacts | None) -> Axes:
    """The axes of one model: what its own function chooses, where the user does not.

    A model that is compiled has its own optimizer alone, and no other model has that.

    Raises:
        UserError: the user names no optimizer that the model can have.
    """
    if work is None or work.reason:
        others = tuple(name for name in axes.optimizers or () if name != OWN)
        # Where there is no other, making the case says what `own` is.
        return replace(axes, optimizers=others or axes.optimizers)
    if given.batch_sizes is None and work.batch_size is not None:
        axes = replace(axes, batch_sizes=(work.batch_size,))
    named = given.optimizers
    if work.compiled:
        if named is not None and OWN not in named:
            raise UserError(
                f"--optimizers {named[0]}: {work.model} is compiled and keeps its own optimizer: "
                f"name {OWN}, or leave --optimizers out"
            )
        return replace(axes, optimizers=(OWN,))
    if named == (OWN,):
        raise UserError(
            f"--optimizers {OWN}: {work.model} is not compiled, so it has none of its own: name "
            "others, or compile it in its function"
        )
    return replace(axes, optimizers=tuple(n for n in axes.optimizers or () if n != OWN))


def parse_axis(axis: str, text: str) -> tuple[str, ...]:
    """The values of a comma-separated list, each once, in the user's order.

    Raises:
        UserError: a value is empty, such as where a script's variable is not set.
    """
    if axis == "optimizers":
        values = split_names(text)
    else:
        values = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    if not all(values):
        raise UserError(
            f"--{axis} {text!r}: a value is empty: name one or more, with commas between them"
        )
    return values


def parse_axes(texts: Mapping[str, str | None]) -> Axes:
    """The axes of the options `--models` ... `--backends`, None where not given.

    Raises:
        UserError: a value is empty, unknown or out of range.
    """
    parsed: dict[str, tuple[object, ...]] = {}
    for axis, text in texts.items():
        if text is not None:
            parsed[axis] = tuple(_value(axis, word) for word in parse_axis(axis, text))
    return Axes(**parsed)  # type: ignore[arg-type]


def field_of(axis: str) -> str:
    """The field of a case that an axis is about."""
    same = {name: name for name in ("threads", "replicas")}
    return {"batch_sizes": "batch_size", **same}.get(axis, axis.removesuffix("s"))


def _value(axis: str, word: str) -> object:
    if axis == "replicas" and word == ALL:
        return word
    if axis in ("batch_sizes", "replicas"):
        return _whole_number(axis, word)
    if axis == "threads":
        return None if word == "default" else _whole_number(axis, word)
    if axis == "devices" and not DEVICE_PATTERN.fullmatch(word):
        raise UserError(f"unknown device {word!r}: write cpu, gpu or gpu:N")
    known = {"precisions": PRECISIONS, "backends": BACKENDS}.get(axis)
    if known and word not in known:
        raise UserError(f"unknown value {word!r} for --{axis}: choose from {', '.join(known)}")
    return word


def _whole_number(axis: str, word: str) -> int:
    option = axis.replace("_", "-")
    try:
        number = int(word)
    except ValueError:
        raise UserError(f"--{option} {word!r}: must be a whole number") from None
    if number < 1:
        raise UserError(f"--{option} {word}: must be at least 1")
    if number > _MOST[axis]:
        raise UserError(f"--{option} {word}: must be at most {_MOST[axis]}")
    return number
