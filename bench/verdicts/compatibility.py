"""What two records must agree in, and for what: one table, and the refusals that follow from it.

A run is resumed only where its launches stay launches of one thing; a stored baseline speaks of
one machine; `compare` sets any two side by side that did the same work, and shows in what they
differ. A fact that a record lacks, because an older revision wrote it, matches anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.machine import variables
from bench.schema.errors import NotComparable
from fmnist_models.errors import UserError

if TYPE_CHECKING:
    from bench.schema.runs import MeasuredRun

Environment = Mapping[str, Any]
_ABSENT = "not recorded"
_DIGEST_SHOWN = 12


class Purpose(Enum):
    """What two records are brought together for."""

    RESUME = "resume"  # a run or a side of a duel goes on
    BASELINE = "baseline"  # stored runs, and the candidate that is checked against them
    CONFIRM = "confirm"  # a stored run, and the side of a duel that stands for it
    COMPARE = "compare"  # runs of any machines, side by side
    THREADS = "threads"  # numbers of threads on one line of the page's chart
    SHOWN = "shown"  # need not agree: `compare` and the page say where it does not


_RESUME, _BASELINE, _CONFIRM = Purpose.RESUME, Purpose.BASELINE, Purpose.CONFIRM
_COMPARE, _THREADS, _SHOWN = Purpose.COMPARE, Purpose.THREADS, Purpose.SHOWN


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact of environment.json.

    Attributes:
        name: in a table.
        path: the keys that lead to it.
        purposes: for which it must agree, or is shown.
        words: in a sentence, before its value; empty for the name.
        of: what of the value counts; None for all of it.
    """

    name: str
    path: tuple[str, ...]
    purposes: frozenset[Purpose]
    words: str = ""
    of: Callable[[Any], Any] | None = None

    def text(self, environment: Environment) -> str:
        """The fact as a person reads it; `not recorded` where the record has no such key."""
        value: Any = environment
        for key in self.path:
            if not isinstance(value, Mapping) or key not in value:
                return _ABSENT
            value = value[key]
        return _as_text(value if self.of is None or value is None else self.of(value))


def _fact(
    name: str,
    path: str,
    *purposes: Purpose,
    words: str = "",
    of: Callable[[Any], Any] | None = None,
) -> Fact:
    return Fact(name, tuple(path.split(".")), frozenset(purposes), words, of)


def _uuids(gpus: Sequence[Any]) -> Any:
    """Those of a list of GPUs; as if not recorded where one has none."""
    found = [gpu.get("uuid") if isinstance(gpu, Mapping) else None for gpu in gpus]
    return found if all(found) else _ABSENT


# A table: a fact a line, its purposes beside each other.
FACTS: tuple[Fact, ...] = (
    _fact("data", "dataset_digest", _RESUME, _BASELINE, _COMPARE, words="data of SHA-256"),
    _fact("CPU", "cpu.model", _RESUME, _CONFIRM, _BASELINE, _THREADS, _SHOWN, words="the CPU"),
    _fact("physical cores", "cpu.cores_physical", _SHOWN),
    _fact("logical cores", "cpu.cores_logical", _RESUME, _CONFIRM, _BASELINE, _THREADS, _SHOWN),
    _fact("allowed cores", "cpu.affinity", _RESUME, _THREADS, _SHOWN),
    _fact("number of allowed cores", "cpu.affinity", _BASELINE, _CONFIRM, of=len),
    _fact("CPU quota", "cpu.cgroup_quota_cpus", _RESUME, _CONFIRM, _BASELINE, _THREADS, _SHOWN,
          words="a CPU quota of"),
    _fact("memory in bytes", "memory_bytes", _SHOWN),
    _fact("GPUs", "gpus", _RESUME, _CONFIRM, _BASELINE, _THREADS, _SHOWN, words="the GPUs"),
    # Two cards of one model are two machines to a run that goes on.
    _fact("UUIDs of the GPUs", "gpus", _RESUME, of=_uuids),
    _fact("driver", "driver_version", _RESUME, _CONFIRM, _THREADS, _SHOWN, words="the driver"),
    _fact("operating system", "os.name", _SHOWN),
    _fact("kernel", "os.kernel", _CONFIRM, _SHOWN),
    _fact("Python", "python.version", _RESUME, _CONFIRM, _THREADS, _SHOWN),
    _fact("TensorFlow", "versions.tensorflow", _RESUME, _CONFIRM, _THREADS, _SHOWN),
    _fact("Keras", "versions.keras", _RESUME, _CONFIRM, _THREADS, _SHOWN),
    _fact("NumPy", "versions.numpy", _RESUME, _CONFIRM, _THREADS, _SHOWN),
    _fact("scikit-learn", "versions.scikit-learn", _RESUME, _CONFIRM, _THREADS, _SHOWN),
    _fact("cuDNN", "versions.nvidia-cudnn", _RESUME, _CONFIRM, _THREADS),
    _fact("CUDA runtime", "versions.nvidia-cuda-runtime", _RESUME, _CONFIRM, _THREADS),
    _fact("variables", "variables", _RESUME, _CONFIRM, _THREADS, _SHOWN, words="the variables"),
    _fact("suite", "versions.fmnist-bench", _RESUME, words="fmnist-bench"),
    _fact("revision", "git.revision", _RESUME, _SHOWN, words="the suite's revision"),
    _fact("changes", "git.dirty", _RESUME, words="changes of the suite since its revision:"),
)  # fmt: skip
# Columns of results.csv in which the rows of one case must agree.
COLUMNS: Mapping[Purpose, tuple[str, ...]] = {
    Purpose.COMPARE: ("epochs",),
    # In a case measured with other settings neither seconds nor accuracy compare.
    Purpose.BASELINE: ("epochs", "seed", "launches"),
}
_DATA = FACTS[0]


def facts(purpose: Purpose) -> tuple[Fact, ...]:
    """The facts that count for `purpose`, in the order in which they are shown."""
    return tuple(fact for fact in FACTS if purpose in fact.purposes)


def shown(environments: Sequence[Environment]) -> dict[str, tuple[str, ...]]:
    """By fact, what each record says; the variables are those that acted."""
    acted = _with_acted(environments)
    return {
        fact.name: tuple(_told(fact.text(environment)) for environment in acted)
        for fact in facts(Purpose.SHOWN)
    }


def differing(environments: Sequence[Environment]) -> dict[str, tuple[str, ...]]:
    """What is shown where the records do not agree; of variables, those that differ."""
    acted = _with_acted(environments)
    held: list[Any] = [environment.get("variables") for environment in acted]
    if all(isinstance(acts, Mapping) for acts in held):
        for environment, acts in zip(acted, held, strict=True):
            environment["variables"] = {
                name: value
                for name, value in acts.items()
                if any(other.get(name) != value for other in held)
            }
    return {
        fact.name: said
        for fact in facts(Purpose.SHOWN)
        if len(set(said := tuple(_told(fact.text(environment)) for environment in acted))) > 1
    }


def same_threads_axis(environments: Sequence[Environment]) -> list[str]:
    """A key each: records with the same key differ in nothing but threads."""
    kept = facts(Purpose.THREADS)
    return [repr([fact.text(e) for fact in kept]) for e in _with_acted(environments)]


def refuse_lost_record(path: Path, environment: Environment | None, launches: int) -> None:
    """What was measured, and nobody knows on what, is nothing to go on with or to compare.

    Args:
        path: of a run, or of a side of a duel.
        environment: what its environment.json holds; None where there is none.
        launches: that it holds.

    Raises:
        UserError: there are launches, and environment.json is gone.
    """
    if environment is None and launches:
        raise UserError(
            f"{path / 'environment.json'} is missing, which says on what its {launches} launches "
            "were measured: take it from a copy, or measure anew"
        )


def refuse_mixing(path: Path, then: Environment, now: Environment) -> None:
    """A run must not go on as another one: other machine, data, software, settings or code.

    Args:
        path: the run's folder.
        then: what its environment.json holds.
        now: what it would hold.

    Raises:
        UserError: something differs; it is named, with both values.
    """
    found = first_difference(Purpose.RESUME, then, now)
    if found is not None:
        fact, before, after = found
        raise UserError(
            f"{path} began with {fact.words or fact.name} {before!r}, now it is {after!r}: put it "
            "back as it was, or start a new run, for one run must not mix them"
        )


def refuse_changed_files(path: Path, then: Environment, roots: Mapping[str, Path]) -> None:
    """A run must not go on with other files of the suite or of the user's model.

    Args:
        path: the run's folder.
        then: its environment.json, whose `code` lists the files that its launches ran.
        roots: the folder that each word of those lists stands for; others cannot be asked.

    Raises:
        UserError: a file is gone or holds something else; the first is named.
    """
    found = first_changed_file(path, then, roots)
    if found is not None:
        name, root = found
        raise UserError(
            f"{path} was measured with another {name} than that in {root}: put it back as it was, "
            "or measure anew, for two must not be mixed"
        )


def first_changed_file(
    path: Path, then: Environment, roots: Mapping[str, Path]
) -> tuple[str, Path] | None:
    """The first file that `refuse_changed_files` would refuse, and the folder that lacks it; None
    where there is none.

    Raises:
        UserError: a name in `code` is that of no file below a folder.
    """
    for listing in dict(then.get("code") or {}).values():
        for word, root in roots.items():
            for name, digest in dict(listing.get(word) or {}).items():
                if ".." in Path(name).parts or Path(name).is_absolute():
                    raise UserError(f"{path}: environment.json: code names {name!r}, no file below")
                if _digest(root / name) != digest:
                    return name, root
    return None


def refuse_copies(runs: Sequence[MeasuredRun]) -> None:
    """One run counted twice would look like a quiet machine.

    Raises:
        UserError: two of the runs hold the same launches; both are named.
    """
    seen: dict[Any, Path] = {}
    for run in runs:
        key = tuple(sorted(run.logs.items()))
        if key and key in seen:
            raise UserError(f"{run.path} holds the same launches as {seen[key]}: leave one out")
        seen[key] = run.path


def refuse_other_machine(runs: Sequence[MeasuredRun]) -> None:
    """A stored baseline speaks of the machine that it was taken on.

    Raises:
        NotComparable: hardware differs; what differs is named.
    """
    first, *others = runs
    for other in others:
        found = first_difference(Purpose.BASELINE, first.environment, other.environment, _DATA)
        if found is not None:
            fact, ours, theirs = found
            raise NotComparable(
                f"{other.path} ran on {fact.words or fact.name} {theirs}, {first.path} on {ours}: "
                "a baseline serves one machine; fmnist-bench compare sets two side by side"
            )


def refuse_other_work(runs: Sequence[MeasuredRun], purpose: Purpose) -> None:
    """Runs are set side by side only where they did the same work.

    Args:
        runs: one or more.
        purpose: `COMPARE` or `BASELINE`, whose `COLUMNS` the rows of one case agree in.

    Raises:
        NotComparable: another data set, or a column differs; the first is named.
    """
    first, *others = runs
    for other in others:
        ours, theirs = (_DATA.text(run.environment) for run in (first, other))
        if _differ(ours, theirs):
            raise NotComparable(
                f"{other.path} trained on data of SHA-256 {_short(theirs)}, {first.path} on "
                f"{_short(ours)}: compare runs of the same --data"
            )
    for column in COLUMNS[purpose]:
        found: dict[str, tuple[Any, Path]] = {}
        for run in runs:
            for case in run.logs:
                value = run.rows[case][column]
                before, where = found.setdefault(case, (value, run.path))
                if before != value:
                    raise NotComparable(
                        f"{case} has {column} {value} in {run.path} and {before} in {where}: "
                        f"measure it with the same --{column}"
                    )


def first_difference(
    purpose: Purpose, first: Environment, second: Environment, left_out: Fact | None = None
) -> tuple[Fact, str, str] | None:
    """The first fact of `purpose` in which two records differ, and what each says; None where they
    agree. `left_out` is not asked."""
    one, other = _with_acted((first, second))
    for fact in facts(purpose):
        ours, theirs = fact.text(one), fact.text(other)
        if fact is not left_out and _differ(ours, theirs):
            return fact, ours, theirs
    return None


def _differ(ours: str, theirs: str) -> bool:
    return ours != theirs and _ABSENT not in (ours, theirs)


def _with_acted(environments: Sequence[Environment]) -> list[dict[str, Any]]:
    """The records with those variables only that acted, such that they compare."""
    found = []
    for environment, acted in zip(environments, variables.acted(environments), strict=True):
        kept = {name: value for name, value in environment.items() if name != "variables"}
        found.append(kept if acted is None else {**kept, "variables": acted})
    return found


def _digest(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""
    except OSError:
        return ""


def _told(text: str) -> str:
    return "not known" if text == _ABSENT else text


def _as_text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={setting}" for name, setting in value.items()) or "none"
    if isinstance(value, list):
        names = [
            str(item.get("name")) if isinstance(item, Mapping) else str(item) for item in value
        ]
        return ", ".join(names) or "none"
    return "not known" if value is None else str(value)


def _short(digest: str) -> str:
    return digest if digest == _ABSENT else f"{digest[:_DIGEST_SHOWN]}..."
