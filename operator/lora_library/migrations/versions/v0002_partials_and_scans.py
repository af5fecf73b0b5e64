"""Files that come in pieces, model cards, and what a malware scan says of an object."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "partials",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("owner", sa.String(length=512), nullable=False),
        sa.Column("purpose", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("path", sa.String(length=512), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["id"], ["reservations.id"], name=op.f("fk_partials_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_partials")),
    )  # fmt: skip
    op.create_index("ix_partials_owner", "partials", ["owner"], unique=False)
    op.add_column("objects", sa.Column("state", sa.String(length=16), server_default="active", nullable=False))
    op.add_column("objects", sa.Column("verdict", sa.Text(), server_default="", nullable=False))
    op.add_column("objects", sa.Column("scan_tries", sa.Integer(), server_default="0", nullable=False))
    op.add_column("objects", sa.Column("scan_after", sa.Float(), server_default="0", nullable=False))
    op.create_index("ix_objects_state", "objects", ["state"], unique=False)
    op.add_column("versions", sa.Column("card", sa.Text(), server_default="", nullable=False))


def downgrade() -> None:
    op.drop_column("versions", "card")
    op.drop_index("ix_objects_state", "objects")
    for name in ("scan_after", "scan_tries", "verdict", "state"):
        op.drop_column("objects", name)
    op.drop_table("partials")
