"""The control probe of a run: how fast its machine was, beside what was measured."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision: str | None = "0002"


def upgrade() -> None:
    """Add the column, which is empty for the runs that are there."""
    op.add_column("fmnist_runs", sa.Column("control", sa.Float(53), nullable=True))
