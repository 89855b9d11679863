"""What the parent process knows of TensorFlow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.backends.facts import Backend

if TYPE_CHECKING:
    from bench.schema.case import Case

# Passes the newest CUDA version that the driver supports to the worker: TensorFlow has no API
# for it.
CUDA_DRIVER_VARIABLE = "FMNIST_CUDA_DRIVER"


# What was tried with Keras 3.15.1 and TensorFlow 2.21.0. Two processes of
# `MultiWorkerMirroredStrategy` meet, but `Model.fit` looks at the shape of the first batch, and
# raises "Attempt to convert a value (PerReplica: ...) with an unsupported type". `fit` with
# `jit_compile=True` under `MirroredStrategy`, which is `multistep` too, ends with "Trying to access
# resource ... located in device CPU:1 from device CPU:0".
def _refuses(case: Case) -> str | None:
    if case.processes > 1:
        return (
            "Keras's fit does not train with TensorFlow in several processes, as it cannot convert "
            "the PerReplica batches of MultiWorkerMirroredStrategy: leave --processes out, or "
            "choose the backend jax or torch"
        )
    if case.replicas > 1 and case.loop != "fit":
        return (
            f"{case.loop} is one XLA program, which cannot reach the variables that "
            "MirroredStrategy has on another device: choose fit, or the backend jax"
        )
    return None


TENSORFLOW = Backend(
    name="tensorflow",
    title="TensorFlow",
    packages=("tensorflow",),
    install="pip install tensorflow",
    requires=("tensorflow>=2.18", "keras>=3.5"),
    tested={"tensorflow": "2.21.0", "keras": "3.15.1"},
    variables=lambda _: {},
    # XLA's pool takes the same size. In TensorFlow 2.21, TF_NUM_INTRAOP_THREADS=1 gives one thread
    # `tf_XLAEigen` and a CPU time of 1.00 times the wall time, plain and compiled; 4 gives four.
    threads=lambda number: {"TF_NUM_INTRAOP_THREADS": str(number)},
    refuses=_refuses,
    # Earlier ones end with "An unusually high number of `tf.data.Iterator.get_next()` calls" where
    # a call has more than 32 steps (keras-team/keras#20344).
    loops_require={"multistep": ("keras>=3.7",)},
)
