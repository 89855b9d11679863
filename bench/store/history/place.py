"""Where a history is: a file, or a database server; and what a user is told of it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from bench.machine.redact import without_passwords
from bench.schema.errors import explained
from bench.store.reader import kind_of
from fmnist_models.errors import UserError

_SERVERS = ("postgresql", "postgres", "postgresql+psycopg")
DAMAGED = "name another history, or take it from a copy"
_REMEDIES = (
    # A pattern of what the engine says, and what to do; the first that matches.
    (
        "peer authentication|ident authentication|pg_hba",
        "name the HOST, or ask who runs the server to let you in",
    ),
    (
        "password authentication|no password|authentication failed",
        "give the right one in PGPASSWORD, ~/.pgpass or the URL",
    ),
    ("database .* does not exist", "make it with createdb, or name another history"),
    ("has no equivalent in encoding", "make a database with createdb -E UTF8 -T template0"),
    ("not a database|malformed|not decode", DAMAGED),
    ("No space|disk full|disk is full|max_page", "make room, then do it again: nothing was lost"),
    ("locked|lock timeout", "another program keeps it: do it again when that has ended"),
    (
        "connection (failed|refused)|could not|timeout|terminated|closed|server|resolve",
        "is the server running, and is the host right? Nothing was lost: do it again",
    ),
    ("readonly|read-only|permission", "get the right to it, or name another history"),
    ("unable to open", "is its folder there, and may you write to it? Or name another history"),
)
_OTHERS = "nothing was changed; do it again, or name another history"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a history is.

    Attributes:
        file: the SQLite file; None for a server.
        url: the server's address; None for a file.
    """

    file: Path | None = None
    url: URL | None = None

    @property
    def shown(self) -> str:
        """The place as a user is told it, without a password."""
        return (
            str(self.file) if self.url is None else without_passwords(self.url.render_as_string())
        )

    def refused(self, error: Exception) -> UserError:
        """The error of a database as one line, with what to do."""
        own = error.orig if isinstance(error, DBAPIError) else error
        lines = str(own).strip().splitlines() or [type(own).__name__]
        said = without_passwords(" ".join(line.strip() for line in lines[:2]))
        pairs = (remedy for form, remedy in _REMEDIES if re.search(form, said, re.IGNORECASE))
        return UserError(f"{self.shown}: {said}; {next(pairs, _OTHERS)}")

    def make_ready(self) -> None:
        """Make the folder of a file.

        Raises:
            UserError: it cannot be made, or the place is a folder or a device.
        """
        if self.file is None:
            return
        self._refuse_no_file()
        folder = self.file.parent
        if kind_of(folder) not in ("folder", None):
            raise UserError(f"{self.file}: {folder} is no folder; name another history")
        with explained(self.file, "name another history"):
            folder.mkdir(parents=True, exist_ok=True)

    def refuse_absent(self) -> None:
        """Refuse a file that is not there, because it is most often mistyped.

        Raises:
            UserError: there is none, or something else.
        """
        if self.file is not None and self._refuse_no_file() is None:
            raise UserError(f"{self.file}: there is no history: fmnist-bench history add makes one")

    def _refuse_no_file(self) -> str | None:
        assert self.file is not None
        kind = kind_of(self.file)
        if kind not in ("file", None):
            told = "a folder" if kind == "folder" else "a device or a pipe"
            raise UserError(f"{self.file} is {told}, and a history is a file: name another")
        return kind

    def is_frozen(self) -> bool:
        """Whether nobody here can write to the file or beside it, and nobody was about to."""
        assert self.file is not None
        beside = self.file.with_name(f"{self.file.name}-wal")
        return not os.access(self.file.absolute().parent, os.W_OK) and not beside.exists()


def place_of(store: str) -> Place:
    """The place that a user named by a path or a URL.

    Raises:
        UserError: the URL cannot be read, or is of another database.
    """
    if "://" not in store:
        return Place(file=Path(store))
    shown = without_passwords(store)
    try:
        url = make_url(store)
    except (ArgumentError, ValueError):
        raise UserError(
            f"{shown}: cannot be read: write postgresql+psycopg://USER@HOST/DATABASE, with "
            "signs such as @ and / of a name as %40 and %2F"
        ) from None
    if url.get_backend_name() == "sqlite" and url.database and url.database != ":memory:":
        return Place(file=Path(url.database))
    if url.drivername not in _SERVERS:
        raise UserError(
            f"{shown}: choose a path, sqlite:///PATH or postgresql+psycopg://USER@HOST/DATABASE"
        )
    return Place(url=url.set(drivername="postgresql+psycopg"))
