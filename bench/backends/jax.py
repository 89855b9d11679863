"""What the parent process knows of JAX."""

from __future__ import annotations

from bench.backends.facts import Backend

JAX = Backend(
    name="jax",
    title="JAX",
    packages=("jax", "jaxlib"),
    install="pip install jax",
    requires=(
        # JAX 0.10.2 computes wrong results on CPUs (jax-ml/jax#39103).
        "jax>=0.10.1,!=0.10.2",
        "keras>=3.15",
    ),
    tested={"jax": "0.10.1", "keras": "3.15.1"},
    # A case on a CPU sees no other device; a GPU's case needs the CPU beside it. Without
    # preallocation, the peak of the allocator's memory is that of the case.
    variables=lambda on_gpu: (
        {"JAX_PLATFORMS": "cuda,cpu", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        if on_gpu
        else {"JAX_PLATFORMS": "cpu"}
    ),
    # XLA's client for CPUs has no flag for the size of its pool, and reads this variable.
    threads=lambda number: {"NPROC": str(number)},
    spreads=("one", "each"),
)
