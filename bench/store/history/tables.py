"""The tables of a history, alike in SQLite and PostgreSQL.

Their names begin with `fmnist_`, as a team's database may hold other tables. Lists and mappings
are JSON texts; blobs are JSON that zlib compressed.
"""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)

# The versions that this code knows, the present one last.
VERSIONS = ("0001", "0002", "0003")
VERSION_TABLE = "fmnist_version"
METADATA = MetaData()

MACHINES = Table(
    "fmnist_machines",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
)
REVISIONS = Table(
    "fmnist_revisions",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("time_utc", Text, nullable=False),
    Column("parents", Text, nullable=False),
)
ENVIRONMENTS = Table(
    "fmnist_environments",
    METADATA,
    Column("digest", Text, primary_key=True),
    Column("facts", Text, nullable=False),
)
RUNS = Table(
    "fmnist_runs",
    METADATA,
    Column("number", Integer, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("content", Text, nullable=False),
    Column("machine", Text, ForeignKey("fmnist_machines.id"), nullable=False),
    Column("revision", Text, ForeignKey("fmnist_revisions.id")),
    Column("dirty", Boolean, nullable=False),
    Column("environment", Text, ForeignKey("fmnist_environments.digest"), nullable=False),
    Column("time_utc", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("launches", Integer, nullable=False),
    Column("record", LargeBinary, nullable=False),
    Column("control", Float(53)),
    Index("fmnist_runs_of_machine", "machine", "time_utc"),
)
CASES = Table(
    "fmnist_cases",
    METADATA,
    Column("run", Integer, ForeignKey("fmnist_runs.number"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("status", Text, nullable=False),
    Column("workload", Text, nullable=False),
    Column("score", Text, nullable=False),
    Column("better", Text, nullable=False),
    Column("logs", Text, nullable=False),
    Column("scores", Text, nullable=False),
    Column("warnings", Text, nullable=False),
)
LAUNCHES = Table(
    "fmnist_launches",
    METADATA,
    Column("run", Integer, ForeignKey("fmnist_runs.number"), primary_key=True),
    Column("place", Integer, primary_key=True),
    Column("record", LargeBinary, nullable=False),
)
NOTES = Table(
    "fmnist_notes",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("time_utc", Text, nullable=False),
    Column("note", Text, nullable=False),
)
