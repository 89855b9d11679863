"""FLOPs of a program that was lowered to HLO and not optimised. Pure functions over bytes.

Before its passes, XLA writes every matrix product as a dot and every convolution as one; some
passes replace them by calls of libraries. Counted are 2 FLOPs for each multiply-add of a dot or a
convolution that the result needs: a part of a step that nothing uses is removed later. A
convolution's products with zeros that only fill up (padding, or the gaps that a stride leaves in
a gradient) are not counted, as XLA's own cost analysis does. So a convolution and its two
gradients have equal counts.

A loop counts its body times its turns. The number of turns is not in the program yet. It is found
by running what steers the loop: the whole numbers and truth values that its condition needs.
Of a conditional, the branch with the most FLOPs counts.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from bench.analysis.hlo import dot_flops, parsed

# Turns that are run to find out how many there are; 65,536 take about a second.
MOST_TURNS = 2**16

# What of an instruction's result is needed: indices of a tuple, or None for all of it.
_Part = frozenset[int] | None
_ALL: _Part = None
_NOTHING: _Part = frozenset()

_SAME = {"reshape", "bitcast", "broadcast", "transpose"}
_COMPARISONS: Mapping[str, Callable[[int, int], bool]] = {
    "EQ": operator.eq,
    "NE": operator.ne,
    "LT": operator.lt,
    "LE": operator.le,
    "GT": operator.gt,
    "GE": operator.ge,
}
_ARITHMETIC: Mapping[str, Callable[..., int]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "negate": operator.neg,
    "maximum": max,
    "minimum": min,
    "and": operator.and_,
    "or": operator.or_,
    "xor": operator.xor,
    "convert": int,
    "not": lambda value: not value if isinstance(value, bool) else ~value,
    "select": lambda which, yes, no: yes if which else no,
}


class Uncountable(Exception):
    """The FLOPs of a program are not known; the message says why."""


def module_flops(module: bytes) -> int:
    """FLOPs of one run of a lowered program.

    Args:
        module: an `xla.HloModuleProto`.

    Raises:
        Uncountable: a loop with products in it has an unknown number of turns.
        ValueError: it is no module.
    """
    program = _Program(parsed("HloModule", module))
    flops, _ = program.run(program.entry, {}, _ALL)
    if flops == math.inf:
        raise Uncountable(f"a loop has an unknown number of turns: {program.endless}")
    return int(flops)


class _Program:
    """The computations of a module.

    Values are what is known of an instruction's result: an int or a bool for a single one, a list
    for a tuple, a `_Kept`, and None for everything else. FLOPs that are not known are infinite.

    Attributes:
        entry: id of the computation that is run first.
        endless: the first loop of which the turns were not found.
    """

    def __init__(self, module: Any) -> None:
        self.entry: int = module.entry_computation_id
        self.endless = ""
        self._computations = {each.id: each for each in module.computations}
        self._found: dict[tuple[int, _Part], tuple[list[Any], dict[int, _Part]]] = {}
        self._by_id = {one.id: one for each in module.computations for one in each.instructions}

    def run(self, number: int, given: Mapping[int, Any], part: _Part) -> tuple[float, Any]:
        """FLOPs and value of that part of a computation, for the values of its parameters."""
        instructions, parts = self._needed(number, part)
        values: dict[int, Any] = {}
        flops: float = 0
        for each in instructions:
            if each.opcode == "parameter":
                values[each.id] = given.get(each.parameter_number)
                continue
            operands = [values.get(operand) for operand in each.operand_ids]
            cost, values[each.id] = self._run_one(each, operands, parts[each.id])
            flops += cost
        return flops, values.get(self._computations[number].root_id)

    def _run_one(self, each: Any, operands: list[Any], part: _Part) -> tuple[float, Any]:
        called = each.called_computation_ids
        match each.opcode:
            case "while":
                return self._run_loop(each, operands[0], part)
            case "call":
                return self.run(called[0], dict(enumerate(operands)), part)
            case "conditional":
                given = zip(called, operands[1:], strict=True)
                return max(self.run(one, {0: value}, part)[0] for one, value in given), None
            case "dot":
                return dot_flops(each, self._by_id[each.operand_ids[0]]), None
            case "convolution":
                left, kernel = (self._by_id[operand].shape for operand in each.operand_ids)
                return _convolution_flops(each, left.dimensions, kernel.dimensions), None
            case "tuple":
                return 0, operands
            case "get-tuple-element":
                (held,) = operands
                return 0, held[each.tuple_index] if isinstance(held, list) else None
        return 0, _value(each, operands)

    def _run_loop(self, loop: Any, start: Any, part: _Part) -> tuple[float, Any]:
        """FLOPs of all turns, and the value after the last one."""
        body, condition = loop.called_computation_ids
        state = self._state(loop, part)
        width = len(loop.shape.tuple_shapes)
        turns, end = self._turns(loop, start)
        known: Any = None
        if width:
            # What the body hands on as it got it is known in every turn.
            kept = [_Kept() for _ in range(width)]
            after = self.run(body, {0: kept}, state)[1] or [None] * width
            values = start if isinstance(start, list) else [None] * width
            known = [v if a is k else None for v, a, k in zip(values, after, kept, strict=True)]
        a_turn = self.run(body, {0: known}, state)[0] + self.run(condition, {0: known}, _ALL)[0]
        if not a_turn:
            return 0, end
        if turns is None:
            self.endless = self.endless or loop.metadata.op_name or loop.name
            return math.inf, None
        return turns * a_turn, end

    def _turns(self, loop: Any, start: Any) -> tuple[int | None, Any]:
        """How often a loop runs, and its value afterwards; (None, None) where that is unknown."""
        body, condition = loop.called_computation_ids
        steering = self._state(loop, _NOTHING)
        value = start
        for turn in range(MOST_TURNS):
            goes_on = self.run(condition, {0: value}, _ALL)[1]
            if not isinstance(goes_on, int):
                break
            if not goes_on:
                return turn, value
            value = self.run(body, {0: value}, steering)[1]
        return None, None

    def _needed(self, number: int, part: _Part) -> tuple[list[Any], dict[int, _Part]]:
        """The instructions that this part of a computation needs, and which part of each."""
        if (number, part) not in self._found:
            computation = self._computations[number]
            parts = {computation.root_id: part}
            # An operand stands before the instructions that use it.
            for each in reversed(computation.instructions):
                if each.id in parts:
                    for operand, wanted in self._needs(each, parts[each.id]):
                        parts[operand] = _both(parts.get(operand, _NOTHING), wanted)
            needed = [each for each in computation.instructions if each.id in parts]
            self._found[number, part] = needed, parts
        return self._found[number, part]

    def _needs(self, each: Any, part: _Part) -> Iterator[tuple[int, _Part]]:
        """The operands that this part of an instruction needs, and which part of each."""
        operands, called = each.operand_ids, each.called_computation_ids
        match each.opcode:
            case "tuple":
                for index in range(len(operands)) if part is None else part:
                    yield operands[index], _ALL
            case "get-tuple-element":
                yield operands[0], frozenset({each.tuple_index})
            case "while":
                yield operands[0], self._state(each, part)
            case "call":
                for index, wanted in self._parameters(called[0], part).items():
                    yield operands[index], wanted
            case "conditional":
                yield operands[0], _ALL
                for branch, operand in zip(called, operands[1:], strict=True):
                    yield operand, self._parameters(branch, part).get(0, _NOTHING)
            case "copy" | "opt-barrier":
                yield operands[0], part
            case _:
                yield from ((operand, _ALL) for operand in operands)

    def _state(self, loop: Any, part: _Part) -> _Part:
        """The part of a loop's state that this part of its result and the condition need."""
        body, condition = loop.called_computation_ids
        state, more = part, self._parameters(condition, _ALL).get(0, _NOTHING)
        while more != state:
            state = _both(state, more)
            more = _both(state, self._parameters(body, state).get(0, _NOTHING))
        return state

    def _parameters(self, number: int, part: _Part) -> dict[int, _Part]:
        """The parameters that this part of a computation needs, and which part of each."""
        instructions, parts = self._needed(number, part)
        found = (each for each in instructions if each.opcode == "parameter")
        return {each.parameter_number: parts[each.id] for each in found}


class _Kept:
    """A value that is only followed through a loop's body."""


def _both(one: _Part, other: _Part) -> _Part:
    return None if one is None or other is None else one | other


def _value(each: Any, operands: Sequence[Any]) -> Any:
    """The value of an instruction that holds no others; None where it is not known."""
    opcode = each.opcode
    if opcode in ("copy", "opt-barrier"):
        return operands[0]
    if math.prod(each.shape.dimensions) != 1 or each.shape.tuple_shapes:
        return None
    if opcode == "constant":
        told = each.literal.ListFields()
        return bool(told[0][1][0]) if each.literal.preds else told[0][1][0] if told else None
    if opcode == "and" and False in operands:
        return False
    if not operands or not all(isinstance(value, int) for value in operands):
        return None
    if opcode in _SAME:
        return operands[0]
    if opcode == "compare":
        return _COMPARISONS[each.comparison_direction](*operands)
    if opcode in ("divide", "remainder"):
        return _quotient(opcode, *operands)
    return _ARITHMETIC[opcode](*operands) if opcode in _ARITHMETIC else None


def _quotient(opcode: str, number: int, divisor: int) -> int | None:
    """Quotient or remainder of whole numbers, rounded towards 0."""
    if divisor == 0:
        return None
    quotient = abs(number) // abs(divisor) * (1 if (number < 0) == (divisor < 0) else -1)
    return quotient if opcode == "divide" else number - quotient * divisor


def _convolution_flops(each: Any, left: Sequence[int], kernel: Sequence[int]) -> int:
    """FLOPs of a convolution of arrays with these dimensions."""
    numbers, result = each.convolution_dimension_numbers, each.shape.dimensions
    terms = result[numbers.output_batch_dimension] * result[numbers.output_feature_dimension]
    terms *= kernel[numbers.kernel_input_feature_dimension]
    axes = zip(
        each.window.dimensions,
        numbers.input_spatial_dimensions,
        numbers.output_spatial_dimensions,
        strict=True,
    )
    for window, of_left, of_result in axes:
        terms *= _pairs(window, left[of_left], result[of_result])
    return int(2 * terms)


def _pairs(window: Any, side: int, places: int) -> int:
    """How many pairs of a window's tap and place, along one axis, meet an element of the input.

    Place o and tap k meet position o * stride + k * window_dilation - padding. Elements are at the
    multiples of the base dilation from 0 on.
    """
    stride, gap = window.stride, window.base_dilation
    last = (side - 1) * gap
    shared = math.gcd(stride, gap)
    period = gap // shared
    found = 0
    for tap in range(window.size):
        offset = tap * window.window_dilation - window.padding_low
        if offset % shared:
            continue
        # Places are the solutions of o * stride + offset = 0 modulo the gap: one in each period.
        first = -offset // shared * pow(stride // shared, -1, period) % period
        lowest = max(0, -(offset // stride))
        highest = min(places - 1, (last - offset) // stride)
        lowest += (first - lowest) % period
        if lowest <= highest:
            found += (highest - lowest) // period + 1
    return found
