"""The columns of the page's table, with their meanings and the texts of their cells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Column:
    """One column of results.csv on the page.

    Attributes:
        name: its name in results.csv.
        heading: its heading on the page.
        meaning: its explanation on the page.
        show: makes the text of a value that is not None.
        at_first: it is shown before the reader chooses columns.
        number: it is aligned right, and sorted by value.
        long: its cells hold whole sentences.
    """

    name: str
    heading: str
    meaning: str
    show: Callable[[Any], str] = str
    at_first: bool = True
    number: bool = True
    long: bool = False


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _three(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else _whole(value)


def _one_place(value: float) -> str:
    return f"{value:.1f}"


def _two_places(value: float) -> str:
    return f"{value:.2f}"


def _two_digits(value: float) -> str:
    return f"{value:.2g}"


def accuracy(value: float) -> str:
    """An accuracy as text."""
    return f"{value:.4f}"


def _score(value: float) -> str:
    return f"{value:.5g}"


def _percent(value: float) -> str:
    return f"{value:.0%}"


def _megabytes(value: float) -> str:
    return f"{value / 1e6:,.0f}"


def _yes_no(value: object) -> str:
    return "yes" if value else "no"


COLUMNS: tuple[Column, ...] = (
    Column("model", "model", "what is trained", number=False),
    Column("optimizer", "optimizer", "empty for scikit-learn", number=False),
    Column(
        "loop",
        "loop",
        "fit: Model.fit as documented; multistep: Model.fit with XLA and 100 "
        "steps a call; compiled: the whole epoch one XLA call",
        number=False,
    ),
    Column("device", "device", "where it trained", number=False),
    Column("batch_size", "batch", "samples a step"),
    Column("precision", "precision", "Keras dtype policy", number=False),
    Column("threads", "threads", "inside an operation; empty: the framework's default"),
    Column("backend", "backend", "the framework behind Keras", number=False),
    Column("replicas", "replicas", "devices that each train a share of every batch"),
    Column("processes", "processes", "1: one drives all replicas; else each has its own"),
    Column(
        "scaling",
        "scaling",
        "strong: the batch of all replicas together stays the same; weak: that of each",
        number=False,
    ),
    Column("local_batch_size", "batch a replica", "samples a step of each replica", at_first=False),
    Column("status", "status", "how the case ended", number=False),
    Column(
        "samples_per_s",
        "samples/s",
        "samples trained in the timed rounds over their "
        "seconds: of each launch the median round, over launches the mean of logarithms",
        _whole,
    ),
    Column(
        "interval",
        "± %",
        "half of the 95% Student t interval over launches; empty with one launch",
        _one_place,
    ),
    Column(
        "efficiency",
        "efficiency",
        "speed-up over one replica, over the number of replicas: 1 where nothing is lost",
        _two_places,
    ),
    Column(
        "efficiency_interval",
        "eff. ± %",
        "half of its 95% Student t interval over launches; empty with one launch",
        _one_place,
    ),
    Column("speedup", "speed-up", "samples/s over those of one replica", _two_places),
    Column(
        "all_reduce_share",
        "all-reduce",
        "seconds in which the replicas add up so many bytes and do nothing else, over a step's",
        _two_digits,
    ),
    Column("step_ms", "step, ms", "one optimizer update at that throughput", _three),
    Column("epoch_s", "epoch, s", "one epoch at that throughput", _three, at_first=False),
    Column(
        "val_score",
        "val. score",
        "on the validation data after the documented epochs, mean over launches",
        _score,
    ),
    Column(
        "test_score",
        "test score",
        "on the test data after the documented epochs, mean over launches",
        _score,
        at_first=False,
    ),
    Column(
        "time_to_score_s",
        "to target, s",
        "training seconds until it first reached the target; empty: not in every launch",
        _three,
    ),
    Column("score", "score", "the metric that judges the case", number=False),
    Column(
        "waiting_share",
        "waits",
        "share of a step spent waiting for the next batch of a stream",
        _percent,
    ),
    Column(
        "input_free_samples_per_s",
        "if fed, samples/s",
        "throughput of steps whose batch is in the device's memory already",
        _whole,
        at_first=False,
    ),
    Column(
        "roofline_fraction",
        "of roofline",
        "least time of a step at the machine's measured peaks, over the measured step",
        _two_digits,
    ),
    Column(
        "bound",
        "bound",
        "what limits it: compute, memory, or overhead where it is below 0.3 of the roofline",
        number=False,
    ),
    Column("gflops", "GFLOP/s", "model FLOPs over the measured time", _three, at_first=False),
    Column(
        "products_fraction",
        "of products",
        "time of the case's matrix products alone, over the measured time",
        _two_digits,
        at_first=False,
    ),
    Column(
        "framework_overhead",
        "framework",
        "share of a fit step that compiled does without; below 0: its program is slower",
        _two_digits,
    ),
    Column(
        "epoch_j",
        "epoch, J",
        "energy of one epoch; empty where no counter can be read",
        _three,
        at_first=False,
    ),
    Column("samples_per_j", "samples/J", "samples trained per joule, over the same spans", _three),
    Column(
        "energy_covers",
        "energy of",
        "the parts of the machine whose energy is counted",
        at_first=False,
        number=False,
    ),
    Column(
        "warmup_s",
        "warm-up, s",
        "tracing, compilation and first steps before round 1",
        _three,
        at_first=False,
    ),
    Column(
        "between_epochs_s",
        "idle, s",
        "idle time an epoch, outside the rounds",
        _three,
        at_first=False,
    ),
    Column(
        "peak_host_memory_bytes",
        "memory, MB",
        "how far the process's peak rose in the launch",
        _megabytes,
        at_first=False,
    ),
    Column(
        "peak_device_memory_bytes",
        "device, MB",
        "the device allocator's peak",
        _megabytes,
        at_first=False,
    ),
    Column("parameters", "parameters", "weights and biases", _whole, at_first=False),
    Column("jit_compile", "compiled", "the step, or not", _yes_no, at_first=False, number=False),
    Column("launches", "launches", "fresh processes that ended ok", at_first=False),
    Column("rounds", "rounds", "timed epochs of those launches", at_first=False),
    Column("reason", "reason", "why the case did not end ok", number=False, long=True),
    Column("warnings", "warnings", "what a reader must know", number=False, long=True),
)
