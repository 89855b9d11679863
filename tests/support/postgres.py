"""A PostgreSQL server of a test session: Debian's package, in a folder of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

PASSWORD = "p%40ss/w0rd"  # as a URL has it
_PLAIN = "p@ss/w0rd"
# A server that loses its host loses these tests, so it need not wait for the disk.
_FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "listen_addresses=")


def program(name: str) -> str | None:
    """A program of the server; None where the package is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(found[-1]) if found else shutil.which(name)


@contextlib.contextmanager
def server() -> Iterator[str]:
    """A running server; gives the folder of its socket.

    It refuses to run as root, so then it runs as the user of the package.
    """
    initdb, postgres = program("initdb"), program("postgres")
    assert initdb is not None
    assert postgres is not None
    other: dict[str, Any] = {"user": "postgres"} if os.geteuid() == 0 else {}
    # Not pytest's folder, into which another user may not look; and a socket's name is short.
    with tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp") as name:
        folder = Path(name)
        (folder / "password").write_text(_PLAIN)
        for path in (folder, folder / "password"):
            if other:
                shutil.chown(path, **other)
        words = ["--auth=scram-sha-256", "--username=bench", f"--pwfile={folder / 'password'}"]
        made = [initdb, "--no-sync", "--encoding=UTF8", "--locale=C", *words, str(folder / "data")]
        subprocess.run(made, check=True, capture_output=True, cwd=folder, **other)
        settings = [word for one in _FAST for word in ("-c", one)]
        running = subprocess.Popen(
            [postgres, "-D", str(folder / "data"), "-k", name, *settings],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            **other,
        )
        try:
            _wait_for(name, running)
            yield name
        finally:
            running.send_signal(signal.SIGQUIT)
            running.wait(60)


def url(socket: str, database: str = "bench", password: str = PASSWORD) -> str:
    """The URL of a database of the server."""
    return f"postgresql+psycopg://bench:{password}@/{database}?host={socket}"


def empty(socket: str, encoding: str = "UTF8") -> None:
    """Make the database `bench` anew, whoever may be connected to it."""
    with _connected(socket) as connection:
        connection.execute("DROP DATABASE IF EXISTS bench WITH (FORCE)")
        made = sql.SQL("CREATE DATABASE bench ENCODING {} TEMPLATE template0").format(encoding)
        connection.execute(made)


def _connected(socket: str) -> psycopg.Connection[Any]:
    return psycopg.connect(
        host=socket, user="bench", password=_PLAIN, dbname="postgres", autocommit=True
    )


def _wait_for(socket: str, running: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 120
    while True:
        try:
            _connected(socket).close()
            return
        except psycopg.OperationalError:
            assert running.poll() is None, "the server ended"
            assert time.monotonic() < until
            time.sleep(0.1)
