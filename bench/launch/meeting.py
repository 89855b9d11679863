"""Where the processes of one launch find each other."""

from __future__ import annotations

import contextlib
import itertools
import socket
from collections.abc import Iterator, Mapping

from fmnist_models.errors import UserError

# The user's own port, such as one that a firewall lets through, or the first of some.
PORT_VARIABLE = "FMNIST_RENDEZVOUS_PORT"
HOST = "127.0.0.1"
_HIGHEST = 65_535
# Ports of the launches that this process measures now; several take turns with each other.
_taken: set[int] = set()


@contextlib.contextmanager
def meeting_point(environ: Mapping[str, str], host: str = HOST) -> Iterator[str]:
    """`HOST:PORT` of this machine at which the processes of a launch can meet within the context.

    `host` is an address of this machine; by the default, processes of this machine alone can come.
    The port is that of `FMNIST_RENDEZVOUS_PORT`, or the next one where a launch that takes turns
    with this one has it; without the variable, one that is free at this moment.
    """
    text = environ.get(PORT_VARIABLE, "").strip()
    port = _bind(host, 0) if not text else next(n for n in itertools.count(int(text)) if _free(n))
    _taken.add(port)
    try:
        yield f"{host}:{port}"
    finally:
        _taken.discard(port)


def _free(port: int) -> bool:
    return port not in _taken


def refuse_taken_port(environ: Mapping[str, str], host: str = HOST) -> None:
    """Refuse a port of the user's at which processes cannot meet.

    Raises:
        UserError: `FMNIST_RENDEZVOUS_PORT` holds no number of a port, or a program listens there.
    """
    text = environ.get(PORT_VARIABLE, "").strip()
    if not text:
        return
    if not text.isdecimal() or not 1 <= int(text) <= _HIGHEST:
        raise UserError(f"{PORT_VARIABLE}={text!r}: must be a number from 1 to {_HIGHEST}")
    try:
        _bind(host, int(text))
    except OSError as error:
        raise UserError(
            f"{PORT_VARIABLE}={text}: the port cannot be used ({error.strerror or error}): name "
            "another, or unset it for a free one"
        ) from error


def _bind(host: str, number: int) -> int:
    """Take a port for a moment, of 0 any free one; returns its number.

    Raises:
        OSError: somebody listens at that port, or it may not be used.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the frameworks' own servers do: connections of an earlier launch may still linger.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, number))
        return int(probe.getsockname()[1])
