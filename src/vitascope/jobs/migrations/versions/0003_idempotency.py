"""Keys under which a caller may repeat a create."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("jobs", sa.Column("idempotency_key", sa.String(64)))
    op.add_column("jobs", sa.Column("idempotency_body", sa.String(64)))
    op.create_index("jobs_by_idempotency_key", "jobs", ["idempotency_key"], unique=True)


def downgrade() -> None:
    """Undo."""
    op.drop_index("jobs_by_idempotency_key", table_name="jobs")
    with op.batch_alter_table("jobs") as table:
        table.drop_column("idempotency_body")
        table.drop_column("idempotency_key")
