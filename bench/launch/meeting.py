"""Where the processes of one launch find each other."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from fmnist_models.errors import UserError

# The user's own port, such as one that a firewall lets through.
PORT_VARIABLE = "FMNIST_RENDEZVOUS_PORT"
_HOST = "127.0.0.1"
_HIGHEST = 65_535


def meeting_point(environ: Mapping[str, str]) -> str:
    """`HOST:PORT` of this machine at which processes can meet.

    The port is that of `FMNIST_RENDEZVOUS_PORT`, or one that is free at this moment.
    """
    return f"{_HOST}:{environ.get(PORT_VARIABLE, '').strip() or _free_port()}"


def refuse_taken_port(environ: Mapping[str, str]) -> None:
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
        _free_port(int(text))
    except OSError as error:
        raise UserError(
            f"{PORT_VARIABLE}={text}: the port cannot be used ({error.strerror or error}): name "
            "another, or unset it for a free one"
        ) from error


def _free_port(number: int = 0) -> int:
    """The number of a port that nobody listens at; of 0, any.

    Raises:
        OSError: somebody listens at that port, or it may not be used.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the frameworks' own servers do: connections of an earlier launch may still linger.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((_HOST, number))
        return int(probe.getsockname()[1])
