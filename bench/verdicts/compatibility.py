"""The checks that refuse two records that do not agree in the facts that count for a purpose.

A run is resumed only on the same machine with the same software, data and code. A stored baseline
is valid for one machine. `compare` accepts any runs that did the same work, and shows in what they
differ. A fact that an earlier revision did not record matches any value.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.machine import variables
from bench.schema.errors import NotComparable
from bench.verdicts.facts import ABSENT, FACTS, UNKNOWN, Environment, Fact, Purpose, facts
from fmnist_models.errors import UserError

if TYPE_CHECKING:
    from bench.schema.runs import MeasuredRun

_DIGEST_SHOWN = 12
# Columns of results.csv that must agree in the rows of one case.
COLUMNS: Mapping[Purpose, tuple[str, ...]] = {
    # Rounds of steps end a launch after other epochs too, so they are told first.
    Purpose.COMPARE: ("steps", "epochs"),
    # With other settings, neither the seconds nor the score of a case can be compared.
    Purpose.BASELINE: ("steps", "epochs", "seed", "launches"),
}
_DATA = FACTS[0]


def shown(environments: Sequence[Environment]) -> dict[str, tuple[str, ...]]:
    """The text of each record, by fact; of the variables, those that had an effect."""
    acted = with_acted(environments)
    return {
        fact.name: tuple(_told(fact.text(environment)) for environment in acted)
        for fact in facts(Purpose.SHOWN)
    }


def known_facts(purpose: Purpose, environment: Environment) -> dict[str, str]:
    """The text of each fact of `purpose` that the record has, by name."""
    (acted,) = with_acted([environment])
    texts = {fact.name: fact.text(acted) for fact in facts(purpose)}
    return {name: text for name, text in texts.items() if text not in (ABSENT, UNKNOWN)}


def same_threads_axis(environments: Sequence[Environment]) -> list[str]:
    """A key for each record; records with the same key differ only in threads."""
    kept = facts(Purpose.THREADS)
    return [repr([fact.text(e) for fact in kept]) for e in with_acted(environments)]


def refuse_lost_record(path: Path, environment: Environment | None, launches: int) -> None:
    """Refuse a folder that has launches but no environment.json, so their machine is not known.

    Args:
        path: folder of a run, or of a side of a duel.
        environment: contents of its environment.json; None where it is missing.
        launches: number of launches in the folder.

    Raises:
        UserError: there are launches, and environment.json is missing.
    """
    if environment is None and launches:
        raise UserError(
            f"{path / 'environment.json'} is missing, which says on what its {launches} launches "
            "were measured: take it from a copy, or measure anew"
        )


def refuse_mixing(path: Path, then: Environment, now: Environment) -> None:
    """Refuse to resume a run on another machine, or with other data, software or code.

    Args:
        path: the run's folder.
        then: contents of its environment.json.
        now: the contents that it would have now.

    Raises:
        UserError: a fact differs; the message names it with both values.
    """
    found = first_difference(Purpose.RESUME, then, now)
    if found is not None:
        fact, before, after = found
        raise UserError(
            f"{path} began with {fact.words or fact.name} {before!r}, now it is {after!r}: put it "
            "back as it was, or start a new run, for one run must not mix them"
        )


def refuse_changed_files(path: Path, then: Environment, roots: Mapping[str, Path]) -> None:
    """Refuse to resume a run with other files of the suite or of the user's model.

    Args:
        path: the run's folder.
        then: its environment.json, whose `code` lists the files that its launches ran.
        roots: the folder for each place named in those lists; other places are not checked.

    Raises:
        UserError: a file is missing or changed; the message names the first.
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
    """The first missing or changed file with its folder; None where there is none.

    Raises:
        UserError: a name in `code` leads out of the folder.
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
    """Refuse a run that is given twice: it would make the machine look quieter than it is.

    Raises:
        UserError: two of the runs hold the same launches; the message names both.
    """
    seen: dict[Any, Path] = {}
    for run in runs:
        key = tuple(sorted(run.logs.items()))
        if key and key in seen:
            raise UserError(f"{run.path} holds the same launches as {seen[key]}: leave one out")
        seen[key] = run.path


def refuse_other_machine(runs: Sequence[MeasuredRun]) -> None:
    """Refuse runs of different machines: a stored baseline is valid for its own machine only.

    Raises:
        NotComparable: the hardware differs; the message names the fact.
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
    """Refuse runs that did different work.

    Args:
        runs: one or more.
        purpose: `COMPARE` or `BASELINE`; the rows of one case must agree in its `COLUMNS`.

    Raises:
        NotComparable: the data set or a column differs; the message names the first difference.
    """
    first, *others = runs
    for other in others:
        ours, theirs = (_DATA.text(run.environment) for run in (first, other))
        if differs(ours, theirs):
            raise NotComparable(
                f"{other.path} trained on data of SHA-256 {_short(theirs)}, {first.path} on "
                f"{_short(ours)}: compare runs of the same --data"
            )
    for column in COLUMNS[purpose]:
        found: dict[str, tuple[Any, Path]] = {}
        for run in runs:
            for case in run.logs:
                value = run.rows[case].get(column)
                before, where = found.setdefault(case, (value, run.path))
                if before != value:
                    raise NotComparable(
                        f"{case} has {column} {_shown(value)} in {run.path} and "
                        f"{_shown(before)} in {where}: measure it with the same --{column}"
                    )


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)


def first_difference(
    purpose: Purpose, first: Environment, second: Environment, left_out: Fact | None = None
) -> tuple[Fact, str, str] | None:
    """The first fact of `purpose` that differs, with the text of each record; None if none does.

    `left_out` is not compared.
    """
    one, other = with_acted((first, second))
    for fact in facts(purpose):
        ours, theirs = fact.text(one), fact.text(other)
        if fact is not left_out and differs(ours, theirs):
            return fact, ours, theirs
    return None


def differs(ours: str, theirs: str) -> bool:
    """Whether two texts of a fact differ; one that is not recorded matches any."""
    return ours != theirs and ABSENT not in (ours, theirs)


def with_acted(environments: Sequence[Environment]) -> list[dict[str, Any]]:
    """The records with only those variables that had an effect, in a form that can be compared."""
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
    return UNKNOWN if text == ABSENT else text


def _short(digest: str) -> str:
    return digest if digest == ABSENT else f"{digest[:_DIGEST_SHOWN]}..."
