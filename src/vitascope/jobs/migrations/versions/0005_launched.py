"""The models that were launched while the server ran."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "launched",
        sa.Column("uid", sa.String(128), primary_key=True),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("spec", sa.Text, nullable=False),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("launched")
