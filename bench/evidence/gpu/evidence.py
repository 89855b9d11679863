"""Runs the parts within a time, and packs what they left."""

from __future__ import annotations

import tarfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.backends import KNOWN
from bench.evidence.gpu.box import Box
from bench.evidence.gpu.device_parts import DEVICE_PARTS
from bench.evidence.gpu.part import Context, Part
from bench.evidence.gpu.power import card_facts
from bench.evidence.gpu.records import (
    Outcome,
    Record,
    Records,
    Result,
    TooShort,
    judged,
    name_of,
)
from bench.evidence.gpu.verb_parts import (
    BETWEEN,
    DOCTOR,
    EQUAL,
    PRECISIONS,
    PROFILE,
    REPLICAS,
    SLOWED,
    SWEEP,
)
from bench.machine.placement import why_missing
from bench.store.tables import write_json
from fmnist_models.errors import UserError

# In order of worth. The parts of a group are measured with one backend after the other.
GROUPS: tuple[tuple[Part, ...], ...] = (
    (DOCTOR,),
    DEVICE_PARTS,
    (SWEEP,),
    (REPLICAS,),
    (SLOWED, EQUAL),
    (PRECISIONS,),
    (PROFILE,),
    (BETWEEN,),
)
NAMES = tuple(part.name for group in GROUPS for part in group)
# Of the packing; of a command with a fault.
_RESERVE_S, _FAULT_S = 5.0, 20.0


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be measured.

    Attributes:
        parts: names of the parts.
        backends: the frameworks, the first of which fights the duels.
        minutes: the time for all.
        fault: the part that is measured with its fault alone; empty for each part without and with.
    """

    parts: Sequence[str]
    backends: Sequence[str]
    minutes: float
    fault: str = ""


def measure(box: Box, wish: Wish, told: Callable[[str], None]) -> list[Record]:
    """Measure the parts, and return their records, which are on disk too.

    Whatever fails in a part is its record, and the others are measured.
    """
    end = time.monotonic() + 60 * wish.minutes - _RESERVE_S
    context = Context(box, Records(box.folder, box.label), stretch=max(1.0, wish.minutes / 8))
    if box.gpu is not None:
        _keep_facts(box)
    there = []
    for backend in wish.backends:
        if reason := why_missing(backend):
            _add(context, "all", backend, "", Outcome(Result.SKIPPED, reason), told)
        else:
            there.append(backend)
    faults = [True] if wish.fault else [False, True]
    try:
        for group in GROUPS:
            parts = [part for part in group if part.name in (wish.fault or wish.parts)]
            for backend in there:
                for part, fault in _in_order(parts, faults):
                    if not part.first_only or backend == there[0]:
                        _measure_one(context, part, backend, fault, end, told)
            context.close_child()
    finally:
        context.close_child()
    return context.records.all


def _in_order(parts: Sequence[Part], faults: Sequence[bool]) -> list[tuple[Part, bool]]:
    """Each part of a group without and with its fault.

    A child's follow one another. Of the commands those with faults come last: a duel's fault is the
    other duel.
    """
    if all(part.in_child for part in parts):
        return [(part, fault) for part in parts for fault in faults]
    return [(part, fault) for fault in faults for part in parts]


def _measure_one(
    context: Context, part: Part, backend: str, fault: bool, end: float, told: Callable[[str], None]
) -> None:
    """Measure one part once, and keep its record."""
    started = time.monotonic()
    context.end_s = min(started + part.most_s * context.stretch, end)
    words = part.fault if fault else ""
    # A command with a fault is short, and the other duel is there already.
    needed = min(part.seconds, _FAULT_S) if fault else part.seconds
    if context.left_s < needed:
        left = f"{max(0.0, context.left_s):.0f} s were left"
        outcome = Outcome(Result.DID_NOT_FIT, f"{left}, and it takes {needed:.0f}")
        _add(context, part.name, backend, words, outcome, told)
        return
    if not part.in_child:
        context.close_child()
    try:
        values = {
            **part.measure(context, backend, fault),
            "on_cpu": context.box.gpu is None,
            "framework": KNOWN[backend].title,
        }
        outcome = judged(part.check(values), words)
        if not fault:
            context.measured[part.name, backend] = values
    except TooShort as reason:
        context.close_child()
        values, outcome = {}, Outcome(Result.DID_NOT_FIT, str(reason))
    except Exception as error:  # noqa: BLE001 - one part must not lose the others
        context.close_child()
        values = {}
        outcome = Outcome(Result.FAILED, f"{type(error).__name__}: {error}")
    took = time.monotonic() - started
    record = Record(
        context.box.label, part.name, backend, words, outcome.result, outcome.words, took, values
    )
    context.records.add(record)
    told(_line(record))


def _add(
    context: Context,
    part: str,
    backend: str,
    fault: str,
    outcome: Outcome,
    told: Callable[[str], None],
) -> None:
    """Keep the record of what was not measured."""
    record = Record(context.box.label, part, backend, fault, outcome.result, outcome.words, 0.0)
    context.records.add(record)
    told(_line(record))


def _line(record: Record) -> str:
    fault = f" [{record.fault}]" if record.fault else ""
    return (
        f"{record.part} {record.backend}{fault}: {record.result}: {record.words} "
        f"({record.seconds:.0f} s; {record.label})"
    )


def _keep_facts(box: Box) -> None:
    """Keep NVML's answers, for a replay in tests; without them the evidence goes on."""
    assert box.gpu is not None
    try:
        write_json(box.folder / "nvml.json", card_facts(box.gpu))
    except Exception as error:  # noqa: BLE001 - one part must not lose the others
        (box.folder / "nvml-error.txt").write_text(f"{type(error).__name__}: {error}\n", "utf-8")


def pack(box: Box, archive: Path) -> Path:
    """Pack the folder into one archive, whose name says where it is of a rehearsal.

    Raises:
        UserError: it cannot be written.
    """
    file = archive.with_name(name_of(archive.name, box.label))
    try:
        with tarfile.open(file, "w:gz") as out:
            # Its own folder, so that it may be unpacked anywhere.
            out.add(box.folder, "gpu-evidence", filter=_small)
    except OSError as error:
        raise UserError(f"cannot write {file}: {error.strerror or error}") from error
    return file


def _small(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """A member without its owner; the images that a rehearsal trains on are left out."""
    if member.name == "gpu-evidence/data":
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def summary(records: Sequence[Record]) -> str:
    """How many records there are of each result, as one line."""
    counts = {result: sum(r.result is result for r in records) for result in Result}
    return ", ".join(f"{count} {result}" for result, count in counts.items() if count)
