"""Connections to a history, in whichever engine; its tables are brought to the present version."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from bench.schema.bounds import shortened
from bench.store.history.place import DAMAGED, Place
from bench.store.history.tables import VERSION_TABLE, VERSIONS
from fmnist_models.errors import UserError

# Seconds for which a writer waits for others, and for a server's first answer.
BUSY_S, CONNECT_S = 60.0, 10
# Of a file: made where it is missing, or only read. What others have begun is not waited for.
_WRITING, _READING, _FROZEN = "mode=rwc", "mode=ro", "immutable=1"
# So that what `prune` takes away makes the file smaller.
_PRAGMAS = ("PRAGMA auto_vacuum=INCREMENTAL", "PRAGMA foreign_keys=ON")
# The key of the lock under which a server's tables are made.
_LOCK = 0x666D6E69
# What reading a text, a list or a blob raises that is not as it was written.
_DAMAGES = (UnicodeDecodeError, json.JSONDecodeError, zlib.error)


class Store:
    """A history's database.

    Args:
        place: where it is.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self._engines: dict[bool, Engine] = {}

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one state of the history, whatever others write.

        Raises:
            UserError: there is no history, it is of a later version, or cannot be read.
        """
        self.place.refuse_absent()
        with self._told(), self._engine(writes=False).begin() as connection:
            version = _version(connection)
            self._refuse_later(version)
            if version is None:
                raise UserError(
                    f"{self.place.shown} holds no history: fmnist-bench history add makes one"
                )
        if version != VERSIONS[-1]:
            with self.writing():
                pass
        with self._told(), self._engine(writes=False).begin() as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction of the only writer of a file; on a server others may write too.

        It is kept as a whole when the context ends, and not at all where an error ends it.

        Raises:
            UserError: the history is of a later version, or cannot be written.
        """
        self.place.make_ready()
        with self._told(), self._engine(writes=True).begin() as connection:
            if connection.dialect.name == "postgresql":
                waits = f"SET LOCAL lock_timeout = '{round(BUSY_S * 1000)}ms'"
                connection.exec_driver_sql(waits)
            if _version(connection) != VERSIONS[-1]:
                self._bring_up_to_date(connection)
            yield connection

    def shrink(self) -> None:
        """Give back what a file no longer needs; a server does that by itself.

        Raises:
            UserError: the file cannot be written.
        """
        if self.place.file is None:
            return
        with self._told(), contextlib.closing(_opener(self.place, writes=True)()) as connection:
            # Not `execute`, which takes one step, and each step gives back one page.
            connection.executescript("PRAGMA incremental_vacuum; PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close all connections."""
        for engine in self._engines.values():
            engine.dispose()
        self._engines.clear()

    def _engine(self, *, writes: bool) -> Engine:
        if writes not in self._engines:
            make = _server if self.place.file is None else _file
            self._engines[writes] = make(self.place, writes)
        return self._engines[writes]

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (DBAPIError, sqlite3.Error) as error:
            raise self.place.refused(error) from error
        except _DAMAGES as error:
            raise UserError(f"{self.place.shown}: it is damaged; {DAMAGED}") from error
        except UnicodeEncodeError as error:
            raise UserError(f"{shortened(error.object)}: is no text; write it anew") from error

    def _bring_up_to_date(self, connection: Connection) -> None:
        """Make the tables that are missing, unless another writer has done so meanwhile."""
        if connection.dialect.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        version = _version(connection)
        self._refuse_later(version)
        if version == VERSIONS[-1]:
            return
        if version is None and connection.dialect.name == "sqlite":
            others = inspect(connection).get_table_names()
            if others:
                raise UserError(
                    f"{self.place.shown} is a database of another program, with a table "
                    f"{min(others)}: name another history"
                )
        _migrate(connection)

    def _refuse_later(self, version: str | None) -> None:
        if version is not None and version not in VERSIONS:
            raise UserError(
                f"{self.place.shown} is a history of version {version}, newer than {VERSIONS[-1]}, "
                "the newest that is known here: update fmnist-bench"
            )


def _version(connection: Connection) -> str | None:
    """The version of the tables; None where there are none."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608
    return None if found is None else str(found)


def _migrate(connection: Connection, to: str = "head") -> None:
    # Only where tables are made: to import Alembic takes longer than to add a run.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "bench.store.history:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, to)


def _server(place: Place, writes: bool) -> Engine:
    assert place.url is not None
    timeout = {} if "connect_timeout" in place.url.query else {"connect_timeout": CONNECT_S}
    try:
        return create_engine(
            place.url,
            poolclass=NullPool,
            # A server of another encoding would be asked in that one, which has not all letters.
            connect_args={
                "application_name": "fmnist-bench",
                "client_encoding": "utf8",
                **timeout,
            },
            isolation_level="READ COMMITTED" if writes else "REPEATABLE READ",
        )
    except ImportError as error:
        raise UserError(
            "a history on PostgreSQL needs psycopg: pip install 'fmnist-bench[history,postgres]'"
        ) from error


def _file(place: Place, writes: bool) -> Engine:
    """An engine of a SQLite file; each transaction of a writer begins with the file's lock."""
    engine = create_engine("sqlite://", creator=_opener(place, writes), poolclass=NullPool)
    begin = "BEGIN IMMEDIATE" if writes else "BEGIN"
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine


def _opener(place: Place, writes: bool) -> Callable[[], sqlite3.Connection]:
    assert place.file is not None
    how = _WRITING if writes else _FROZEN if place.is_frozen() else _READING
    uri = f"{place.file.absolute().as_uri()}?{how}"

    def connect() -> sqlite3.Connection:
        """A connection in which nothing but `BEGIN` begins a transaction."""
        made = sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None)
        try:
            if writes:
                for pragma in _PRAGMAS:
                    made.execute(pragma)
                _read_while_written(made)
        except BaseException:
            made.close()
            raise
        return made

    return connect


def _read_while_written(connection: Any) -> None:
    """Turn on SQLite's log ahead of writing, so that readers and the writer do not wait.

    SQLite does not wait for the lock that the first change to it takes.
    """
    until = time.monotonic() + BUSY_S
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.01)
