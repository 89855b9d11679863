"""What XLA compiled, read from a module as protobuf text. Pure functions over text."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

# A block opens at an indentation and closes at the same one.
_COMPUTATION = re.compile(r"^  computations \{\n(.*?)^  \}$", re.DOTALL | re.MULTILINE)
_INSTRUCTION = re.compile(r"^    instructions \{\n(.*?)^    \}$", re.DOTALL | re.MULTILINE)
_SHAPE = re.compile(r"^      shape \{\n(.*?)^      \}$", re.DOTALL | re.MULTILINE)
_OPERATION = re.compile(r'^        op_name: "([^"]*)"$', re.MULTILINE)

_HOLDING = {"while", "conditional", "call"}


@dataclass(frozen=True, slots=True)
class HloInstruction:
    """What is known of an instruction.

    Attributes:
        path: of the TensorFlow operation that it came from; empty where it is not told.
        flops: of its products in one run; 0 where it holds none.
        holds_others: it is a loop, a branch or a call, whose parts are instructions themselves.
    """

    path: str
    flops: int
    holds_others: bool = False


@dataclass(slots=True)
class _Found:
    name: str
    opcode: str
    dimensions: list[int]
    path: str
    operands: list[str]
    contracted: list[int]
    calls: list[str]


def parse_hlo(text: str) -> dict[str, HloInstruction]:
    """The instructions of a compiled module, by name.

    A dot counts 2 FLOPs for each element of its result and each that is contracted; a fusion
    or a call counts its dots. A loop counts nothing: its body runs many times, and is seen
    by itself.
    """
    by_id: dict[str, _Found] = {}
    computations: dict[str, list[_Found]] = {}
    for body in _COMPUTATION.findall(text):
        own = []
        for block in _INSTRUCTION.findall(body):
            found = _instruction(block)
            by_id[_field(block, "id")] = found
            own.append(found)
        computations[_last_field(body, "id")] = own
    return {
        found.name: HloInstruction(
            found.path, _flops(found, by_id, computations), found.opcode in _HOLDING
        )
        for found in by_id.values()
    }


def _instruction(block: str) -> _Found:
    shape = _SHAPE.search(block)
    path = _OPERATION.search(block)
    return _Found(
        _field(block, "name").strip('"'),
        _field(block, "opcode").strip('"'),
        [int(size) for size in re.findall(r"^        dimensions: (\d+)$", shape[1], re.MULTILINE)]
        if shape
        else [],
        path[1] if path else "",
        re.findall(r"^      operand_ids: (\d+)$", block, re.MULTILINE),
        [int(n) for n in re.findall(r"lhs_contracting_dimensions: (\d+)", block)],
        re.findall(r"^      called_computation_ids: (\d+)$", block, re.MULTILINE),
    )


def _flops(
    found: _Found, by_id: Mapping[str, _Found], computations: Mapping[str, list[_Found]]
) -> int:
    if found.opcode == "dot" and found.operands and found.operands[0] in by_id:
        left = by_id[found.operands[0]].dimensions
        contracted = math.prod(left[axis] for axis in found.contracted if axis < len(left))
        return 2 * math.prod(found.dimensions) * contracted
    if found.opcode in ("fusion", "call"):
        inner = [one for call in found.calls for one in computations.get(call, [])]
        return sum(_flops(one, by_id, computations) for one in inner)
    return 0


def _field(block: str, name: str) -> str:
    found = re.search(rf"^      {name}: (.+)$", block, re.MULTILINE)
    return found[1] if found else ""


def _last_field(body: str, name: str) -> str:
    """A field of the computation itself, which stands beside its instructions."""
    found = re.findall(rf"^    {name}: (.+)$", body, re.MULTILINE)
    return found[-1] if found else ""
