"""A run as a history keeps it, and the way back: no figure is lost."""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import median
from typing import Any

from bench.analysis.case_row import Launch
from bench.analysis.rows import measured_launches
from bench.machine.redact import legible
from bench.schema.bounds import checked
from bench.schema.cells import as_cell, counted, csv_text
from bench.schema.columns import RESULT_COLUMNS, ROUND_COLUMNS, Row
from bench.schema.history import Revision, as_utc
from bench.schema.launch import LaunchRecord, Round, StoredRound
from bench.schema.runs import MeasuredRun, WholeRun
from bench.schema.score import ACCURACY
from bench.schema.warnings import of_row
from bench.store.tables import write_json, write_text
from bench.verdicts.compatibility import known_facts
from bench.verdicts.facts import Purpose, facts
from fmnist_models.errors import UserError

# Digits of the ids: two runs of a million have the same one with a chance below 1e-16.
_RUN, _SHORT = 24, 16
_OF_ROUND = tuple(f.name for f in fields(Round))


@dataclass(frozen=True, slots=True)
class Machine:
    """What a run is told to have been measured on: an id, and the name that a reader is shown."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class KeptCase:
    """A case of a run: the fields of `bench.schema.history.HistoryPoint`, and what work it did.

    Attributes:
        workload: digest of the work; empty of a case that did none.
    """

    name: str
    status: str
    workload: str
    score: str
    better: str
    logs: tuple[float, ...]
    scores: tuple[float, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KeptRun:
    """A run as it is kept.

    Attributes:
        id: of the run, the same however far it has come.
        content: digest of all that is in `record` and `launches`.
        machine, revision: those that it is kept under.
        told: which of these two a user told; the other follows from what the run recorded.
        record: plan, environment, rows, and the columns of the tables, compressed.
        launches: each launch with its rounds, compressed.
        ended: the number of launches that ended.
        control: log seconds of the control probe, the median of its readings; None without.
    """

    id: str
    content: str
    machine: Machine
    revision: Revision | None
    told: frozenset[str]
    facts: Mapping[str, str]
    time_utc: str
    label: str
    cases: tuple[KeptCase, ...]
    record: bytes
    launches: tuple[bytes, ...]
    ended: int
    control: float | None = None


def kept(run: MeasuredRun, machine: str | None = None, revision: Revision | None = None) -> KeptRun:
    """A finished run as a history keeps it.

    Args:
        run: the run, as `bench.store.measured.read_run` reads it.
        machine: the user's name for the machine; None for that of its hardware.
        revision: of the code that was measured; None for what the run recorded.

    Raises:
        UserError: the run has no launch, or no time at which it began.
    """
    assert run.whole is not None
    whole = run.whole()
    if not whole.launches:
        raise UserError(f"{run.path} holds no launch: there is nothing to keep")
    plan = whole.plan and whole.plan.to_json()
    columns = {"row_columns": RESULT_COLUMNS, "round_columns": ROUND_COLUMNS}
    files = {"plan": plan, "environment": run.environment, "rows": whole.rows}
    record = _text({**files, **columns})
    launches = tuple(map(_text, _by_launch(whole)))
    named = None if machine is None else legible(machine)
    return KeptRun(
        id=_id(run, whole),
        content=_digest("\n".join((record, *launches))),
        machine=machine_of(run.environment) if named is None else Machine(named, named),
        revision=revision or revision_of(run.environment),
        told=frozenset(n for n, v in (("machine", machine), ("revision", revision)) if v),
        facts=facts_of(run.environment),
        time_utc=_time_of(run),
        label=legible(run.label),
        cases=tuple(_cases(run, whole)),
        record=_packed(record),
        launches=tuple(map(_packed, launches)),
        ended=len(whole.launches),
        control=_control_of(run.environment),
    )


def restore(folder: Path, record: bytes, launches: Sequence[bytes]) -> None:
    """Write the files of a run again, with every figure that it had.

    Of a run that an earlier version of the suite added, the tables have the columns of that one.

    Args:
        folder: a new or empty folder.
        record: as `KeptRun` has it.
        launches: its launches likewise.
    """
    told = _unpacked(record)
    known = [_unpacked(blob) for blob in launches]
    folder.mkdir(parents=True, exist_ok=True)
    rounds = [[as_cell(value) for value in one] for each in known for one in each["rounds"]]
    write_text(folder / "rounds.csv", csv_text([told["round_columns"], *rounds]))
    ended = (each["launch"] for each in known if each["launch"] is not None)
    lines = (json.dumps(launch, ensure_ascii=False) + "\n" for launch in ended)
    write_text(folder / "launches.jsonl", "".join(lines))
    rows = [[as_cell(row[name]) for name in told["row_columns"]] for row in told["rows"]]
    write_text(folder / "results.csv", csv_text([told["row_columns"], *rows]))
    write_json(folder / "environment.json", told["environment"])
    # Last, as of a new run: what a kill leaves does not look like a whole run.
    if told["plan"] is not None:
        write_json(folder / "plan.json", told["plan"])


def machine_of(environment: Mapping[str, Any]) -> Machine:
    """The machine of a run by its hardware: that which a baseline must have in common.

    What a run does not record is left out, so that a new fact in the table changes no machine's id.
    """
    hardware = [fact for fact in facts(Purpose.BASELINE) if fact.name != "data"]
    texts = {
        fact.name: text for fact in hardware if (text := fact.text(environment)) != fact.absent
    }
    cpu = environment.get("cpu") or {}
    gpus = [str(gpu.get("name") or "GPU") for gpu in environment.get("gpus") or ()]
    parts = [str(cpu.get("model") or "unknown CPU")]
    if cpu.get("cores_logical"):
        parts.append(counted(cpu["cores_logical"], "thread"))
    parts += [
        name if gpus.count(name) == 1 else f"{gpus.count(name)} x {name}"
        for name in dict.fromkeys(gpus)
    ]
    # Of a run across several nodes, these are facts of the first.
    nodes = environment.get("nodes")
    of = f"{counted(len(nodes), 'node')}: " if nodes else ""
    return Machine(_digest(_text(texts))[:_SHORT], legible(of + ", ".join(parts)))


def facts_of(environment: Mapping[str, Any]) -> dict[str, str]:
    """What beside the code may have changed the speed, by name.

    The suite's version is one of them, except where the suite itself is what was measured: then its
    commit is the code, and each has another version.
    """
    found = known_facts(Purpose.HISTORY, environment)
    suite = (environment.get("versions") or {}).get("fmnist-bench")
    if suite and (environment.get("revision") or not environment.get("git")):
        found["suite"] = suite
    return {name: legible(text) for name, text in found.items()}


def digest_of_facts(known: Mapping[str, str]) -> str:
    """The digest of an environment."""
    return _digest(_text(dict(sorted(known.items()))))[:_SHORT]


def revision_of(environment: Mapping[str, Any]) -> Revision | None:
    """The commit that a run recorded: of the user's own code, else of the suite; None without."""
    told = environment.get("revision") or environment.get("git") or {}
    if not told.get("revision"):
        return None
    return checked(
        {
            "id": told["revision"],
            "time_utc": told.get("time_utc") or "",
            "parents": told.get("parents") or (),
            "dirty": bool(told.get("dirty")),
        },
        Revision,
    )


def _control_of(environment: Mapping[str, Any]) -> float | None:
    readings = environment.get("control_s")
    return math.log(median(readings)) if readings else None


def _id(run: MeasuredRun, whole: WholeRun) -> str:
    """The id of a run: of when it began, and of what its first launch measured.

    However far the run comes, that stays what it was. No names, and no fields that a later version
    may add: such a version shall find the runs that this one added.
    """
    first = whole.launches[0]
    seconds = [stored.round.seconds for stored in whole.rounds if _key(stored) == _key(first)]
    measured = (run.time_utc, first.launch, first.attempt, first.seed, first.total_s, seconds)
    return _digest(_text(measured))[:_RUN]


def _time_of(run: MeasuredRun) -> str:
    try:
        return as_utc(run.time_utc)
    except ValueError:
        raise UserError(
            f"{run.path}: environment.json has no time_utc, so the run has no place in a history: "
            "take it from a copy"
        ) from None


def _cases(run: MeasuredRun, whole: WholeRun) -> Iterator[KeptCase]:
    launches = measured_launches(whole.launches, whole.rounds)
    for name, row in run.rows.items():
        ok = name in run.logs
        yield KeptCase(
            name,
            str(row["status"]),
            _workload(row, run.environment) if ok else "",
            row["score"] or ACCURACY,
            row["better"] or "max",
            run.logs.get(name, ()),
            _scores(row, launches.get(name, ())) if ok else (),
            tuple(legible(str(warning)) for warning in of_row(row)),
        )


def _workload(row: Row, environment: Mapping[str, Any]) -> str:
    """The digest of what a case trains, and for how long."""
    names = ("data_digest", "model_digest", "epochs", "steps", "seed", "score", "better")
    work = {name: row[name] for name in names}
    return _digest(_text({**work, "data": environment.get("dataset_digest")}))[:_SHORT]


def _scores(row: Row, launches: Sequence[Launch]) -> tuple[float, ...]:
    """The score on the validation data of each launch, after the documented epochs."""
    if row["val_score"] is None:
        return ()
    if row["epochs"] is None:
        return (row["val_score"],)
    found = (rounds[row["epochs"] - 1].val_score for _, rounds in launches)
    return tuple(score for score in found if score is not None)


def _by_launch(whole: WholeRun) -> Iterator[dict[str, Any]]:
    """Each launch with its rounds; rounds of a launch that has not ended come last."""
    rounds: dict[tuple[str, int, int], list[list[Any]]] = {}
    for stored in whole.rounds:
        rounds.setdefault(_key(stored), []).append(_cells(stored))
    for launch in whole.launches:
        yield {"launch": launch.to_json(), "rounds": rounds.pop(_key(launch), [])}
    for others in rounds.values():
        yield {"launch": None, "rounds": others}


def _key(of: LaunchRecord | StoredRound) -> tuple[str, int, int]:
    return of.case, of.launch, of.attempt


def _cells(stored: StoredRound) -> list[Any]:
    # Not `asdict`, which takes ten times as long.
    return [*_key(stored), *(getattr(stored.round, name) for name in _OF_ROUND)]


def _packed(text: str) -> bytes:
    return zlib.compress(text.encode("ascii"))


def _unpacked(blob: bytes) -> Any:
    return json.loads(zlib.decompress(blob))


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("ascii")).hexdigest()
