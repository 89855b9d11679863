"""The devices of several replicas, and what their processes do together, with JAX."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import keras
import numpy as np

from bench.schema.cells import counted
from bench.schema.errors import Unavailable
from bench.worker.quoting import ends_of
from bench.worker.replicas import PATIENCE
from fmnist_models.errors import UserError
from fmnist_models.own import one_line
from fmnist_models.replicas import Replicas

# The threads of XLA's pool for CPUs; it reads the variable when the first device is made. The part
# of each virtual CPU in an all-reduce holds a thread until all are there. With a thread for each of
# two cores, four CPUs waited for each other until XLA ended the process: in three of four
# trainings by `fit`, and in none of eight with 16 threads.
_POOL, _THREADS_A_CPU = "NPROC", 8
# PyTorch reads it too.
_INTERFACE = "GLOO_SOCKET_IFNAME"


def meet(jax: Any, replicas: Replicas, *, is_gpu: bool) -> None:
    """Make the virtual CPUs of this process, and join it to the others.

    JAX must not have used a device yet.

    Raises:
        Unavailable: it has.
        UserError: the processes do not meet.
    """
    if not is_gpu and jax.config.jax_num_cpu_devices != replicas.here:
        try:
            jax.config.update("jax_num_cpu_devices", replicas.here)
        except RuntimeError as error:
            raise Unavailable(f"JAX cannot make {replicas.here} CPUs: {one_line(error)}") from error
    if not is_gpu and replicas.here > 1:
        usual = int(os.environ.get(_POOL) or os.cpu_count() or 1)
        os.environ[_POOL] = str(usual + _THREADS_A_CPU * replicas.here)
    if replicas.processes > 1:
        if not is_gpu and (interface := os.environ.get(_INTERFACE)):
            _listen_at(jax, interface)
        try:
            _join(jax, replicas)
        except RuntimeError as error:
            # No case is left out for what may go well the next time.
            raise UserError(
                f"process {replicas.rank} of {replicas.processes} did not meet the others at "
                f"{replicas.meeting}: {ends_of(error)}"
            ) from error


def _join(jax: Any, replicas: Replicas) -> None:
    if replicas.rank == 0:
        _refuse_taken_port(replicas.meeting)
    # It would catch the signal that ends a process.
    jax.config.update("jax_enable_preemption_service", False)
    patience_s = int(PATIENCE.total_seconds())
    # Keras's own function passes no limits, and at its limit JAX ends the process that waits.
    jax.distributed.initialize(
        replicas.meeting,
        replicas.processes,
        replicas.rank,
        initialization_timeout=patience_s,
        # By itself, it lets others in at every address of the machine.
        coordinator_bind_address=replicas.meeting,
        heartbeat_timeout_seconds=patience_s,
        shutdown_timeout_seconds=patience_s,
    )


def _listen_at(jax: Any, interface: str) -> None:
    """Let gloo listen at a network interface.

    By itself it takes the address of the host's name, which many systems give to the loopback; and
    JAX has no setting for it.
    """
    makers = jax._src.lib.xla_client._xla
    makers.make_gloo_tcp_collectives = partial(
        makers.make_gloo_tcp_collectives, interface=interface
    )


def _refuse_taken_port(meeting: str) -> None:
    """Refuse a port at which JAX would die without a word of Python's.

    Raises:
        UserError: another process has it.
    """
    host, _, port = meeting.rpartition(":")
    try:
        socket.create_server((host, int(port))).close()
    except OSError as error:
        raise UserError(
            f"the processes cannot meet at {meeting} ({error.strerror}): another process has that "
            "port: measure again"
        ) from error


def refuse_other_devices(devices: Sequence[Any], replicas: Replicas, kind: str) -> None:
    """Refuse fewer or more devices than there are replicas.

    Raises:
        Unavailable: there are, in all or in this process.
    """
    here = sum(device.process_index == replicas.rank for device in devices)
    if (len(devices), here) != (replicas.count, replicas.here):
        own = f", {here} of them in process {replicas.rank}" if replicas.processes > 1 else ""
        raise Unavailable(
            f"JAX sees {counted(len(devices), kind)}{own}, and {replicas.count} replicas need one "
            "each: name as many --replicas as there are devices, or fewer"
        )


@contextmanager
def data_parallel(jax: Any, devices: Sequence[Any], replicas: Replicas) -> Iterator[None]:
    """Within the context, Keras builds and trains models on these devices.

    Processes leave it together, so that none ends while another still needs it. After an error
    they do not, as the others may never come.
    """
    distribution = keras.distribution.DataParallel(
        devices=list(devices), auto_shard_dataset=replicas.processes == 1
    )
    with distribution.scope():
        yield
    if replicas.processes > 1:
        jax.distributed.shutdown()


def wait_for_all() -> None:
    """Return once every process has come here."""
    from jax.experimental.multihost_utils import sync_global_devices

    sync_global_devices("here")


def of_first(value: float) -> float:
    """The value of the first process, in each of them."""
    from jax.experimental.multihost_utils import broadcast_one_to_all

    # As bytes, for JAX would round it to 32 bits.
    told = broadcast_one_to_all(np.array([value]).view(np.uint8))
    return float(np.asarray(told).view(np.float64)[0])


def adding(jax: Any, devices: Sequence[Any], numbers: int, times: int) -> Callable[[], None]:
    """A function that adds up numbers of each device some times, and waits for their sums."""

    def add_up(x: Any) -> Any:
        """Add up over the devices, one after the other."""
        for _ in range(times):
            # Without the barrier XLA may make one of several.
            x = jax.lax.optimization_barrier(jax.lax.psum(x, "replica"))
        return x

    mesh = jax.sharding.Mesh(np.array(devices), ("replica",))
    spec = jax.sharding.PartitionSpec
    apart = jax.sharding.NamedSharding(mesh, spec("replica"))
    zeros = np.zeros((1, numbers), np.float32)
    own = jax.make_array_from_callback((len(devices), numbers), apart, lambda _: zeros)
    add = jax.jit(
        jax.shard_map(
            add_up,
            mesh=mesh,
            in_specs=spec("replica"),
            out_specs=spec(),
        )
    )
    return lambda: add(own).block_until_ready()
