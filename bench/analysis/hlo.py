"""What XLA compiled and what its profiler wrote, read by `protobuf`. Pure functions over bytes.

Of the messages' definitions (`hlo.proto` and `xla_data.proto` of XLA, `xplane.proto` of TSL) only
what is asked for stands here: a field's number never changes, xprof brings none of the three, and
TensorFlow's copies cannot be imported without TensorFlow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

# By message, the number of each field and what it holds, `*` where it is repeated.
_MESSAGES: Mapping[str, Mapping[str, tuple[int, str]]] = {
    "HloProto": {"hlo_module": (1, "HloModule")},
    "HloModule": {"computations": (3, "HloComputation*")},
    "HloComputation": {"instructions": (2, "HloInstruction*"), "id": (5, "int64")},
    "HloInstruction": {
        "name": (1, "string"),
        "opcode": (2, "string"),
        "shape": (3, "Shape"),
        "metadata": (7, "OpMetadata"),
        "dot_dimension_numbers": (30, "DotDimensionNumbers"),
        "id": (35, "int64"),
        "operand_ids": (36, "int64*"),
        "called_computation_ids": (38, "int64*"),
    },
    "Shape": {"dimensions": (3, "int64*")},
    "OpMetadata": {"op_name": (2, "string")},
    "DotDimensionNumbers": {"lhs_contracting_dimensions": (1, "int64*")},
    "XSpace": {"hostnames": (4, "string*")},
}
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


@cache
def message_class(name: str) -> Any:
    """The class of a message of `_MESSAGES`; fields that are not there are kept as they are."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    field_type = descriptor_pb2.FieldDescriptorProto
    scalars = {"string": field_type.TYPE_STRING, "int64": field_type.TYPE_INT64}
    file = descriptor_pb2.FileDescriptorProto(name="bench.proto")
    for message, fields in _MESSAGES.items():
        made = file.message_type.add(name=message)
        for field, (number, held) in fields.items():
            kind = held.removesuffix("*")
            label = field_type.LABEL_OPTIONAL if kind == held else field_type.LABEL_REPEATED
            added = made.field.add(name=field, number=number, label=label)
            if kind in scalars:
                added.type = scalars[kind]
            else:
                added.type_name = kind
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def parsed(name: str, content: bytes) -> Any:
    """A message of `_MESSAGES`.

    Raises:
        ValueError: the bytes are none.
    """
    from google.protobuf.message import DecodeError

    try:
        return message_class(name).FromString(content)
    except DecodeError as error:
        raise ValueError(f"{error} ({name})") from error


def parse_hlo(module: bytes) -> dict[str, HloInstruction]:
    """The instructions of a compiled module, by name.

    A dot counts 2 FLOPs for each element of its result and each that is contracted; a fusion
    or a call counts its dots. A loop counts nothing: its body runs many times, and is seen
    by itself.

    Args:
        module: an `xla.HloProto`.

    Raises:
        ValueError: it is none.
    """
    told = parsed("HloProto", module).hlo_module
    computations = {each.id: each.instructions for each in told.computations}
    by_id = {found.id: found for own in computations.values() for found in own}
    return {
        found.name: HloInstruction(
            found.metadata.op_name,
            _flops(found, by_id, computations),
            found.opcode in _HOLDING,
        )
        for found in by_id.values()
    }


def _flops(found: Any, by_id: Mapping[int, Any], computations: Mapping[int, Sequence[Any]]) -> int:
    if found.opcode == "dot" and found.operand_ids and found.operand_ids[0] in by_id:
        left = by_id[found.operand_ids[0]].shape.dimensions
        axes = found.dot_dimension_numbers.lhs_contracting_dimensions
        contracted = math.prod(left[axis] for axis in axes if axis < len(left))
        return int(2 * math.prod(found.shape.dimensions) * contracted)
    if found.opcode in ("fusion", "call"):
        inner = [one for call in found.called_computation_ids for one in computations.get(call, ())]
        return sum(_flops(one, by_id, computations) for one in inner)
    return 0
