"""Replicas of one process: `MirroredStrategy` over named devices.

TensorFlow is an argument and never imported, so that tests can replace it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bench.schema.errors import Unavailable


def make_virtual_cpus(tf: Any, count: int) -> None:
    """Make the CPU so many devices of TensorFlow's; call it before a device is used.

    Raises:
        Unavailable: a device was used.
    """
    cpu = tf.config.list_physical_devices("CPU")[0]
    devices = [tf.config.LogicalDeviceConfiguration() for _ in range(count)]
    try:
        tf.config.set_logical_device_configuration(cpu, devices)
    except RuntimeError as error:
        raise Unavailable(
            f"{count} replicas: the CPU cannot be made as many devices once TensorFlow has used "
            f"it ({error})"
        ) from error


def strategy_over(tf: Any, names: Sequence[str]) -> Any:
    """What trains on these devices, and holds each variable on all of them.

    GPUs add up by NCCL, which is the default. Virtual CPUs share one memory, so one of them adds
    up for all: the rings that are the default between CPUs only pass copies round.
    """
    on_gpus = names[0].startswith("/GPU")
    adds = None if on_gpus else tf.distribute.ReductionToOneDevice()
    return tf.distribute.MirroredStrategy(list(names), cross_device_ops=adds)


def adding(
    tf: Any, strategy: Any, synchronize: Callable[[], None], numbers: int, times: int
) -> Callable[[], None]:
    """A function that adds up numbers of each replica some times, and waits for their sums.

    Args:
        tf: the module tensorflow.
        strategy: over the replicas.
        synchronize: returns once the devices are idle.
        numbers: float32 numbers of each replica.
        times: how often, one after the other.
    """
    given = strategy.run(lambda: tf.zeros((numbers,)))

    def add_up(value: Any) -> Any:
        """Add up on one replica, with all others."""
        context = tf.distribute.get_replica_context()
        for _ in range(times):
            # On CPUs it is a sum. TensorFlow makes one of sums of sums, whose terms are as many as
            # the replicas to the power of `times`; not through a function that is no sum.
            value = tf.abs(context.all_reduce(tf.distribute.ReduceOp.SUM, value))
        return value

    all_reduce = tf.function(lambda value: strategy.run(add_up, args=(value,)), autograph=False)

    def add() -> None:
        """Add them up."""
        all_reduce(given)
        synchronize()

    return add
