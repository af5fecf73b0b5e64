"""How often an adapter is used is known nowhere: no column says 0."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_column("loras", "usage_count")


def downgrade() -> None:
    op.add_column("loras", sa.Column("usage_count", sa.BigInteger(), nullable=False, server_default="0"))
