"""Made-up traces: what ran, for how long, within what. Those of a GPU are synthetic."""

from __future__ import annotations

import pytest
from support.traces import GPU, HOST, process, ran

from bench.analysis.hlo import HloInstruction, message_class, parse_hlo
from bench.analysis.trace_events import (
    STEP_TRACED,
    covered,
    device_times,
    named,
    operations,
    phase_of,
    starting,
)
from bench.schema.profile import Phase


def test_self_time_leaves_out_what_runs_within_on_the_same_thread() -> None:
    events = [
        process(HOST, "/host:CPU"),
        ran("while.1", 0, 100, hlo_op="while.1", hlo_module="m"),
        ran("dot.2", 10, 30, hlo_op="dot.2", hlo_module="m"),
        ran("dot.2", 50, 30, hlo_op="dot.2", hlo_module="m"),
        ran("dot.2", 20, 40, tid=2, hlo_op="dot.2", hlo_module="m"),
        ran("end: dot.2", 60, 1, tid=2, flow="7"),
        ran("Iterator::Root", 0, 5, tid=3, id="1"),
        {"ph": "i", "name": "ThreadpoolListener::Record", "pid": HOST, "tid": 1, "ts": 3},
    ]
    hlo = {"dot.2": HloInstruction("gradient_tape/relu_mlp_1/dense/MatMul", 1_000)}
    dot, loop = operations(events, hlo, "relu_mlp")
    assert (loop.name, loop.kind, loop.count, loop.phase) == ("while.1", "XLA", 1, None)
    assert loop.total_s == pytest.approx(100e-6)
    assert loop.self_s == pytest.approx(40e-6)
    assert loop.flops_per_s is None
    assert (dot.name, dot.count, dot.phase) == ("dot.2", 3, Phase.BACKWARD)
    assert dot.self_s == dot.total_s == pytest.approx(100e-6)
    assert dot.flops_per_s == pytest.approx(3_000 / 100e-6)
    assert dot.share + loop.share == pytest.approx(1)


def test_operations_of_tensorflow_are_named_by_path_and_kind() -> None:
    events = [
        ran(
            "_MklMatMul",
            0,
            4,
            long_name="StatefulPartitionedCall/gradient_tape/x/MatMul:_MklMatMul",
        ),
        ran("Iterator::Prefetch", 5, 3, long_name="Iterator::Root::Prefetch"),
        ran("__inference_f_1", 0, 99, tid=2, long_name="__inference_f_1:__inference_f_1"),
    ]
    found = {o.name: (o.kind, o.phase) for o in operations(events)}
    assert found == {
        "gradient_tape/x/MatMul (_MklMatMul)": ("TensorFlow", Phase.BACKWARD),
        "Iterator::Root::Prefetch": ("input pipeline", Phase.INPUT),
    }


@pytest.mark.parametrize(
    ("path", "phase"),
    [
        ("relu_mlp_1/dense_2_1/Relu", Phase.FORWARD),
        ("while/body/relu_mlp/dense/MatMul", Phase.FORWARD),
        ("compile_loss/sparse_categorical_crossentropy/mul", Phase.FORWARD),
        ("gradient_tape/compile_loss/mul", Phase.BACKWARD),
        ("adam_1/truediv_1", Phase.OPTIMIZER),
        ("loss_scale_optimizer/adam/Sub", Phase.OPTIMIZER),
        ("Iterator::Root::Prefetch", Phase.INPUT),
        ("IteratorGetNext", Phase.INPUT),
        ("AssignAddVariableOp_3", None),
        ("dadams/Mul", None),
        ("jit(watched)/jvp(dense)/dot_general", Phase.FORWARD),
        ("jit(epoch_3)/while/body/closed_call/jvp(compile_loss)/mean/div", Phase.FORWARD),
        ("jit(epoch_3)/while/body/closed_call/transpose(jvp(dense_1))/mul", Phase.BACKWARD),
        ("jit(epoch_3)/while/body/closed_call/adam/add", Phase.OPTIMIZER),
        ("jit(epoch_3)/while/body/closed_call/gather", Phase.INPUT),
        ("jit(epoch_3)/gather", Phase.INPUT),
        ("jit(epoch_3)/while/body/closed_call/jvp(embedding)/gather", Phase.FORWARD),
        ("jit(epoch_3)/while/body/closed_call/argmax/reduce", None),
    ],
)
def test_the_path_tells_the_phase(path: str, phase: Phase | None) -> None:
    assert phase_of(path, "relu_mlp") is phase


def test_tracing_and_compiling_are_told_apart_and_not_counted_twice() -> None:
    events = [
        ran("tf.function-graph_building", 0, 50),
        ran("tf.function-graph_building", 10, 20),
        ran("CpuCompiler::RunBackend", 60, 100),
        ran("FusionCompiler::Compile", 100, 80, tid=2),
        ran("XlaCompiler", 40, 10),
        ran("relu_mlp-adam-compiled-cpu-b32-float32", 0, 500),
    ]
    assert starting(events) == pytest.approx((50e-6, 120e-6))


def test_what_jax_traces_and_compiles_is_told_apart() -> None:
    """As its profiler writes it: a call of a jitted function holds the rest."""
    events = [
        ran("PjitFunction(epoch)", 0, 500),
        ran(STEP_TRACED, 10, 50),
        ran("lower_sharding_computation", 100, 20),
        ran("backend_compile_and_load", 130, 200),
        ran("PjRtCpuClient::Compile", 131, 190),
        ran("CommonPjRtLoadedExecutable::ExecuteHelperOnSingleDevice", 340, 100),
    ]
    assert starting(events) == pytest.approx((70e-6, 200e-6))


def test_a_gpu_shows_kernels_copies_and_gaps() -> None:
    """Synthetic: two kernels side by side, a copy half hidden by one, and two gaps."""
    events = [
        process(GPU, "/device:GPU:0"),
        process(HOST, "/host:CPU"),
        ran("gemm", 0, 10, tid=14, pid=GPU, kernel_details="regs:32"),
        ran("relu", 5, 10, tid=15, pid=GPU, kernel_details="regs:16"),
        ran("MemcpyH2D", 12, 8, tid=16, pid=GPU, memcpy_details="kind_src:pageable"),
        ran("gemm", 30, 10, tid=14, pid=GPU, kernel_details="regs:32"),
        ran("adam", 45, 5, tid=14, pid=GPU, kernel_details="regs:8"),
        ran("fusion.3", 0, 50, tid=99, pid=GPU, hlo_op="fusion.3"),
        ran("elsewhere", 0, 500, pid=HOST),
    ]
    (gpu,) = device_times(events)
    assert gpu.device == "/device:GPU:0"
    assert gpu.window_s == pytest.approx(50e-6)
    assert gpu.kernels_s == pytest.approx(30e-6)
    assert gpu.copies_s == pytest.approx(5e-6)
    assert (gpu.gaps, gpu.gaps_s) == (2, pytest.approx(15e-6))
    kinds = {(o.kind, o.name): o.count for o in operations(events)}
    assert kinds == {
        ("kernel", "gemm"): 2,
        ("kernel", "relu"): 1,
        ("kernel", "adam"): 1,
        ("copy", "MemcpyH2D"): 1,
    }


def test_a_host_alone_has_no_devices() -> None:
    assert device_times([process(HOST, "/host:CPU"), ran("x", 0, 1)]) == []


def test_the_shared_trace_names_case_and_phases() -> None:
    events = [
        process(HOST, "/host:CPU"),
        ran("dot.2", 10, 30, hlo_op="dot.2"),
        ran("end: dot.2", 40, 1),
        ran("EagerExecute", 0, 50),
        {"ph": "i", "name": "ThreadpoolListener::Record", "pid": HOST, "tid": 1, "ts": 3},
    ]
    shown = named(
        events, "my-case", {"dot.2": HloInstruction("relu_mlp/dense/MatMul", 8)}, "relu_mlp"
    )
    assert [event["args"].get("name") or event["name"] for event in shown] == [
        "my-case /host:CPU",
        "forward: dot.2",
        "EagerExecute",
    ]
    assert shown[1]["cat"] == "forward"
    assert events[1]["name"] == "dot.2"


def test_intervals_that_overlap_count_once() -> None:
    assert covered([(5, 9), (0, 4), (3, 6), (20, 21)]) == 10
    assert covered([]) == 0


MODULE = """\
hlo_module {
  name: "a_inference"
  computations {
    name: "fused_computation"
    instructions {
      name: "p.0"
      opcode: "parameter"
      shape {
        element_type: F32
        dimensions: 8
        dimensions: 4
        layout {
          minor_to_major: 1
          minor_to_major: 0
        }
      }
      id: 7
    }
    instructions {
      name: "dot.9"
      opcode: "dot"
      shape {
        element_type: F32
        dimensions: 8
        dimensions: 3
        layout {
          minor_to_major: 1
        }
      }
      metadata {
        op_type: "MatMul"
        op_name: "relu_mlp/dense/MatMul"
      }
      dot_dimension_numbers {
        lhs_contracting_dimensions: 1
        rhs_contracting_dimensions: 0
      }
      id: 9
      operand_ids: 7
      operand_ids: 8
    }
    id: 2
    root_id: 9
  }
  computations {
    name: "main"
    instructions {
      name: "dot_fusion"
      opcode: "fusion"
      shape {
        element_type: F32
        dimensions: 8
        dimensions: 3
      }
      metadata {
        op_name: "relu_mlp/dense/Relu"
      }
      id: 11
      operand_ids: 10
      called_computation_ids: 2
    }
    instructions {
      name: "while.1"
      opcode: "while"
      shape {
        element_type: TUPLE
      }
      id: 12
      called_computation_ids: 2
    }
    id: 3
    root_id: 12
  }
}
"""


def test_flops_of_dots_and_of_fusions_that_hold_them() -> None:
    from google.protobuf import text_format

    module = text_format.Parse(MODULE, message_class("HloProto")(), allow_unknown_field=True)
    known = parse_hlo(module.SerializeToString())
    assert known["dot.9"] == HloInstruction("relu_mlp/dense/MatMul", 2 * 8 * 3 * 4)
    assert known["dot_fusion"] == HloInstruction("relu_mlp/dense/Relu", 2 * 8 * 3 * 4)
    assert known["while.1"].flops == 0
    assert known["p.0"].path == ""
    assert parse_hlo(b"") == {}
    with pytest.raises(ValueError, match="HloProto"):
        parse_hlo(b"\xff")
