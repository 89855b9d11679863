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
    "HloModule": {"computations": (3, "HloComputation*"), "entry_computation_id": (6, "int64")},
    "HloComputation": {
        "instructions": (2, "HloInstruction*"),
        "id": (5, "int64"),
        "root_id": (6, "int64"),
    },
    "HloInstruction": {
        "name": (1, "string"),
        "opcode": (2, "string"),
        "shape": (3, "Shape"),
        "metadata": (7, "OpMetadata"),
        "literal": (8, "Literal"),
        "parameter_number": (9, "int64"),
        "tuple_index": (13, "int64"),
        "window": (15, "Window"),
        "convolution_dimension_numbers": (16, "ConvolutionDimensionNumbers"),
        "dot_dimension_numbers": (30, "DotDimensionNumbers"),
        "id": (35, "int64"),
        "operand_ids": (36, "int64*"),
        "called_computation_ids": (38, "int64*"),
        "comparison_direction": (63, "string"),
    },
    "Shape": {"dimensions": (3, "int64*"), "tuple_shapes": (4, "Shape*")},
    "Literal": {
        "preds": (2, "int64*"),
        "s32s": (4, "int64*"),
        "s64s": (5, "int64*"),
        "u32s": (6, "int64*"),
        "u64s": (7, "int64*"),
    },
    "Window": {"dimensions": (1, "WindowDimension*")},
    "WindowDimension": {
        "size": (1, "int64"),
        "stride": (2, "int64"),
        "padding_low": (3, "int64"),
        "window_dilation": (5, "int64"),
        "base_dilation": (6, "int64"),
    },
    "ConvolutionDimensionNumbers": {
        "kernel_input_feature_dimension": (3, "int64"),
        "output_batch_dimension": (9, "int64"),
        "output_feature_dimension": (10, "int64"),
        "input_spatial_dimensions": (11, "int64*"),
        "output_spatial_dimensions": (12, "int64*"),
    },
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
        return dot_flops(found, by_id[found.operand_ids[0]])
    if found.opcode in ("fusion", "call"):
        inner = [one for call in found.called_computation_ids for one in computations.get(call, ())]
        return sum(_flops(one, by_id, computations) for one in inner)
    return 0


def dot_flops(dot: Any, left: Any) -> int:
    """FLOPs of a dot whose first operand is `left`: 2 for each element and each contracted one."""
    sides = left.shape.dimensions
    axes = dot.dot_dimension_numbers.lhs_contracting_dimensions
    contracted = math.prod(sides[axis] for axis in axes if axis < len(sides))
    return int(2 * math.prod(dot.shape.dimensions) * contracted)
