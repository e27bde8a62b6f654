"""Which job a remix was made from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("jobs", sa.Column("remixed_from", sa.String(64)))


def downgrade() -> None:
    """Undo."""
    with op.batch_alter_table("jobs") as table:
        table.drop_column("remixed_from")
