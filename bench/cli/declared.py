"""What each option of a run is called and means, declared once for every entry point."""

from __future__ import annotations

from dataclasses import dataclass

from bench.schema.matrix import ALL, MATRICES
from bench.schema.sizes import (
    CHECK_ACCURACY_GATE,
    DEFAULT_GATE,
    DUEL_ACCURACY_GATE,
    DUEL_GATE,
    MARGIN,
)
from fmnist_models import DATA_VARIABLE


@dataclass(frozen=True, slots=True)
class Option:
    """One option of every entry point.

    Attributes:
        name: its name, without the leading dashes.
        kind: str, int, float, or bool for a flag.
        help: its help text.
        metavar: the name of its value in the help.
        taken: pytest or a common plugin has an option of that name, so in pytest it is
            `--fmnist-NAME`.
        of_plan: `--resume` takes its value from the folder.
    """

    name: str
    kind: type
    help: str
    metavar: str = ""
    taken: bool = False
    of_plan: bool = True

    @property
    def key(self) -> str:
        """The name as a Python identifier."""
        return self.name.replace("-", "_")


_LIST = "comma-separated; replaces that axis of the matrix"
OPTIONS: tuple[Option, ...] = (
    Option("matrix", str, f"{', '.join(MATRICES)} [default: documented]", "NAME"),
    Option(
        "models",
        str,
        f"models, or module:function or path/to/file.py:function of your own; {_LIST}",
        "LIST",
    ),
    Option(
        "optimizers",
        str,
        "optimizers, with arguments where Keras knows them (adam:learning_rate=3e-4), or "
        f"module:function of your own; own is that of a compiled model; {_LIST}",
        "LIST",
    ),
    Option("loops", str, f"fit, multistep, compiled, sklearn; {_LIST}", "LIST"),
    Option("devices", str, f"cpu, gpu, gpu:1 ...; {_LIST} [default: all present]", "LIST"),
    Option("batch-sizes", str, f"samples a step; {_LIST}", "LIST"),
    Option("precisions", str, f"float32, tf32, mixed_bfloat16, mixed_float16; {_LIST}", "LIST"),
    Option("threads", str, f"CPU threads inside an operation, or default; {_LIST}", "LIST"),
    Option(
        "backends",
        str,
        f"tensorflow, jax, torch; {_LIST} [default: the first that is installed]",
        "LIST",
    ),
    Option(
        "replicas",
        str,
        f"numbers of devices that share each batch, such as 1,2,4; {ALL}: every one [default: 1]",
        "LIST",
    ),
    Option(
        "processes",
        str,
        "one: a process for all replicas; each: a process for each [default: one, each with torch]",
        "WORD",
    ),
    Option(
        "scaling",
        str,
        "strong: batch sizes are of all replicas together; weak: of each [default: strong]",
        "WORD",
    ),
    Option("epochs", int, "documented epochs [default: 5; quick: 2]", "N"),
    Option(
        "steps",
        int,
        "steps of a round, for work whose epoch is long; no score is taken [default: an epoch]",
        "N",
    ),
    Option(
        "cache-stream",
        bool,
        "read a stream into the device's memory once, so that compiled can train on it",
    ),
    Option(
        "launches",
        int,
        "fresh processes a case [default: 3 for compiled and multistep, "
        "1 for fit and sklearn; quick: 1; with --replicas: 3]",
        "N",
    ),
    Option("seed", int, "launch k trains with seed + k [default: 42]", "N", taken=True),
    Option("accuracy-target", float, "on the images, for the time to it [default: 0.85]", "X"),
    Option(
        "data",
        str,
        f"folder of IDX files in place of the embedded ones; also {DATA_VARIABLE}",
        "FOLDER",
    ),
    Option("timeout", float, "seconds that one launch may take [default: 600]", "S", taken=True),
    Option("fresh", bool, "start every launch afresh instead of forking it"),
    Option("label", str, "your name for this machine or set-up", "TEXT"),
    Option(
        "output", str, "the run's folder [default: a new one under results/]", "FOLDER", taken=True
    ),
    Option("resume", str, "finish the run in this folder", "FOLDER", of_plan=False),
    Option("require-all", bool, "a case that would be skipped is an error", of_plan=False),
    Option("no-report", bool, "write no report.html", of_plan=False),
    Option("wait", bool, "wait while another run measures on this machine", of_plan=False),
)
# The changes that a verdict tolerates and must find, for `check`, `duel` and `pytest bench`.
SIZE_OPTIONS: tuple[Option, ...] = (
    Option(
        "gate",
        float,
        f"slow-down that must be found, as a share [default: {DEFAULT_GATE:g}, "
        f"which is {DEFAULT_GATE:.0%}; in a duel {DUEL_GATE:g}]",
        "SHARE",
        of_plan=False,
    ),
    Option(
        "margin",
        float,
        f"slow-down that is tolerated, as a share [default: {MARGIN:g}]",
        "SHARE",
        of_plan=False,
    ),
    Option(
        "accuracy-gate",
        float,
        "drop of accuracy that must be found, in points, or of another score in points or percent "
        f"[default: {100 * CHECK_ACCURACY_GATE:g}; in a duel {100 * DUEL_ACCURACY_GATE:g}]",
        "POINTS",
        of_plan=False,
    ),
)
# `pytest bench` checks the run that it measures, as `fmnist-bench check` does a finished run.
GATE_OPTIONS: tuple[Option, ...] = (
    Option(
        "baseline",
        str,
        "folder of stored runs; a confirmed regression fails its test",
        "FOLDER",
        of_plan=False,
    ),
    *SIZE_OPTIONS,
)
AXES = (
    "models",
    "optimizers",
    "loops",
    "devices",
    "batch_sizes",
    "precisions",
    "threads",
    "backends",
    "replicas",
)
