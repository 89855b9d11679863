"""What the processes of one launch told, as if one had told it.

They must have done the same work.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from bench.launch.ending import Ended
from bench.launch.process import Answer
from bench.schema.launch import Round, Status

# Results in which the processes must agree: the same code and data.
_ALIKE = ("software", "model_digest", "data_digest", "initial_weights")
# Results that agree but for rounding, which is another on another model of GPU: they trained alike.
_NEAR = ("final_norms", "test_loss", "test_score")
_ROUNDING = 1e-4
_TO_AGREE = "let all processes run the same files and versions"
_TO_BE_ONE = "the processes did not train one model: seed what your functions draw"
_SUMMED = ("peak_host_memory_bytes",)
_LARGEST = ("peak_device_memory_bytes", "warmup_s", "after_training_s", "all_reduce_s")


def _same(one: Any, other: Any) -> bool:
    """Whether two results are the same but for rounding; NaN is the same as NaN."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        both_nan = math.isnan(one) and math.isnan(other)
        return both_nan or math.isclose(one, other, rel_tol=_ROUNDING, abs_tol=1e-12)
    return bool(one == other)


def one_round(rounds: Mapping[int, Round]) -> Round:
    """The round of the launch: that of the first rank, in the seconds of the slowest.

    Raises:
        Ended: the ranks trained differently.
    """
    first = rounds[0]
    for rank, other in sorted(rounds.items())[1:]:
        for what in ("samples", "updates", "train_loss", "train_score"):
            mine, its = getattr(first, what), getattr(other, what)
            if not _same(mine, its):
                raise Ended(
                    Status.INVALID,
                    f"round {first.round}: {what} is {mine} on rank 0 and {its} on rank {rank}: "
                    "the processes did not train the same model",
                )
    return replace(first, seconds=max(r.seconds for r in rounds.values()))


def one_answer(answers: Sequence[Answer]) -> Answer:
    """The answer of the launch: that of the first rank, with what counts of all.

    It is `invalid` where the processes ran other versions, or ended with another model.
    """
    every = [answer.fields for answer in answers]
    first = dict(every[0])
    for rank, fields in enumerate(every[1:], 1):
        if other := _other_file(first.get("files") or {}, fields.get("files") or {}):
            reason = f"rank {rank} of {len(every)} ran another {other} than rank 0: {_TO_AGREE}"
            return Answer(Status.INVALID, reason, first)
        for name in (*_ALIKE, *_NEAR):
            mine, its = first.get(name), fields.get(name)
            if mine == its or (name in _NEAR and _same(mine, its)):
                continue
            why = f": {_TO_BE_ONE}"
            if name in _ALIKE:
                why = f" ({_difference(mine, its)}): {_TO_AGREE}"
            reason = f"rank {rank} of {len(every)} has another {name} than rank 0{why}"
            return Answer(Status.INVALID, reason, first)
    first.pop("final_norms", None)
    for names, combined in ((_SUMMED, sum), (_LARGEST, max)):
        for name in names:
            known = [fields[name] for fields in every if fields.get(name) is not None]
            if known:
                first[name] = combined(known)
    if all("usage" in fields for fields in every):
        first["usage"] = _usage([fields["usage"] for fields in every])
    warnings = [text for fields in every for text in fields.get("warnings", ())]
    return replace(answers[0], fields={**first, "warnings": list(dict.fromkeys(warnings))})


def _other_file(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """The first module that two processes ran with another content; empty if there is none."""
    both = sorted(one.keys() & other.keys())
    return next((name for name in both if one[name][1] != other[name][1]), "")


def _usage(every: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The usage of all processes together, over the time of the first one."""
    whole: dict[str, Any] = dict(every[0])
    for name in filter(lambda name: name != "wall_s", every[0]):
        values = [usage.get(name) for usage in every]
        whole[name] = None if None in values else sum(filter(None, values))
    return whole


def _difference(one: Any, other: Any) -> str:
    """Where two values differ, in a few words."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for name in {**one, **other}:
            if one.get(name) != other.get(name):
                return f"{name} {one.get(name)}, and {other.get(name)}"
    return f"{one}, and {other}"
