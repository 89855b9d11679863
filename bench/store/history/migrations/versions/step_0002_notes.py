"""Notes on what was found in a history, by the id of what they are of."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision: str | None = "0001"


def upgrade() -> None:
    """Make the table of notes."""
    op.create_table(
        "fmnist_notes",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("time_utc", sa.Text, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
    )
