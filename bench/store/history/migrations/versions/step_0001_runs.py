"""The runs of machines: their environments, revisions, cases and launches."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None
_OF_A_CASE = ("name", "status", "workload", "score", "better", "logs", "scores", "warnings")


def upgrade() -> None:
    """Make the first tables."""
    op.create_table(
        "fmnist_machines",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
    )
    op.create_table(
        "fmnist_revisions",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("time_utc", sa.Text, nullable=False),
        sa.Column("parents", sa.Text, nullable=False),
    )
    op.create_table(
        "fmnist_environments",
        sa.Column("digest", sa.Text, primary_key=True),
        sa.Column("facts", sa.Text, nullable=False),
    )
    op.create_table(
        "fmnist_runs",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("machine", sa.Text, sa.ForeignKey("fmnist_machines.id"), nullable=False),
        sa.Column("revision", sa.Text, sa.ForeignKey("fmnist_revisions.id")),
        sa.Column("dirty", sa.Boolean, nullable=False),
        sa.Column(
            "environment", sa.Text, sa.ForeignKey("fmnist_environments.digest"), nullable=False
        ),
        sa.Column("time_utc", sa.Text, nullable=False),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("launches", sa.Integer, nullable=False),
        sa.Column("record", sa.LargeBinary, nullable=False),
    )
    op.create_index("fmnist_runs_of_machine", "fmnist_runs", ["machine", "time_utc"])
    op.create_table(
        "fmnist_cases",
        sa.Column("run", sa.Integer, sa.ForeignKey("fmnist_runs.number"), primary_key=True),
        *(
            sa.Column(name, sa.Text, primary_key=name == "name", nullable=False)
            for name in _OF_A_CASE
        ),
    )
    op.create_table(
        "fmnist_launches",
        sa.Column("run", sa.Integer, sa.ForeignKey("fmnist_runs.number"), primary_key=True),
        sa.Column("place", sa.Integer, primary_key=True),
        sa.Column("record", sa.LargeBinary, nullable=False),
    )
