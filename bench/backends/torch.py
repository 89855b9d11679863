"""What the parent process knows of PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.backends.facts import Backend

if TYPE_CHECKING:
    from bench.schema.case import Case


def _refuses(case: Case) -> str | None:
    if case.replicas > 1 and case.processes == 1:
        return (
            "PyTorch's DistributedDataParallel has a process for each replica: name --processes "
            "each, or leave it out"
        )
    if case.replicas > 1 and case.loop == "fit":
        return (
            "no released Keras trains with PyTorch on several devices in fit: 3.15.1 does not, and "
            "3.16, which is to do it, is not out: choose compiled, or the backend jax"
        )
    if case.loop == "multistep":
        return "Keras refuses steps_per_execution above 1 with PyTorch: choose fit or compiled"
    if case.precision == "mixed_float16" and case.device == "cpu":
        return (
            "Keras computes products of float16 in float32 with PyTorch on a CPU: choose "
            "mixed_bfloat16"
        )
    return None


TORCH = Backend(
    name="torch",
    title="PyTorch",
    packages=("torch",),
    install="pip install torch",
    requires=("torch>=2.9", "keras>=3.15"),
    tested={"torch": "2.13.0", "keras": "3.15.1"},
    # Keras would take any accelerator that PyTorch sees. Compiling in the process itself leaves no
    # pool of processes behind, and its time and memory are the launch's. From a cache on disk, only
    # the first launch would compile.
    variables=lambda on_gpu: {
        "KERAS_TORCH_DEVICE": "cuda:0" if on_gpu else "cpu",
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
        "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1",
    },
    # OMP_NUM_THREADS, which each case with `threads` has, is PyTorch's own.
    threads=lambda number: {"MKL_NUM_THREADS": str(number)},
    compiles_by_xla=False,
    spreads=("each",),
    profiling=("pyinstrument",),
    refuses=_refuses,
)
