"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("actor", sa.String(length=512), nullable=False),
        sa.Column("owner", sa.String(length=512), nullable=False),
        sa.Column("action", sa.String(length=32), nullable=False),
        sa.Column("lora", sa.String(length=32), nullable=True),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index("ix_audit_at", "audit", ["at"], unique=False)
    op.create_index("ix_audit_owner", "audit", ["owner"], unique=False)
    op.create_table(
        "owners",
        sa.Column("subject", sa.String(length=512), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("quota_bytes", sa.BigInteger(), nullable=True),
        sa.Column("quota_adapters", sa.Integer(), nullable=True),
        sa.Column("publisher", sa.String(length=64), server_default="", nullable=False),
        sa.Column("publisher_until", sa.Float(), server_default="0", nullable=False),
        sa.Column("revision", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("published_revision", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("subject", name=op.f("pk_owners")),
    )
    op.create_table(
        "removals",
        sa.Column("prefix", sa.String(length=512), nullable=False),
        sa.Column("noted_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("prefix", name=op.f("pk_removals")),
    )
    op.create_table(
        "loras",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("owner", sa.String(length=512), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("base_model", sa.String(length=253), nullable=False),
        sa.Column("engine_name", sa.String(length=128), nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("attributes", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("current", sa.Integer(), nullable=False),
        sa.Column("pinned", sa.Boolean(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("usage_count", sa.BigInteger(), nullable=False),
        sa.Column("last_used_at", sa.Float(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.Column("deleted_at", sa.Float(), nullable=True),
        sa.Column("published", sa.Integer(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["owner"], ["owners.subject"], name=op.f("fk_loras_owner")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_loras")),
    )
    op.create_index("ix_loras_engine_name", "loras", ["engine_name"], unique=False)
    op.create_index("ix_loras_owner", "loras", ["owner"], unique=False)
    op.create_index(
        "uq_loras_owner_name",
        "loras",
        ["owner", "name"],
        unique=True,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "objects",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("owner", sa.String(length=512), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("files", sa.JSON(), nullable=False),
        sa.Column("described", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["owner"], ["owners.subject"], name=op.f("fk_objects_owner")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_objects")),
    )
    op.create_index("uq_objects_owner_fingerprint", "objects", ["owner", "fingerprint"], unique=True)
    op.create_table(
        "reservations",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("owner", sa.String(length=512), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["owner"], ["owners.subject"], name=op.f("fk_reservations_owner")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reservations")),
    )
    op.create_index("ix_reservations_owner", "reservations", ["owner"], unique=False)
    op.create_table(
        "shares",
        sa.Column("lora", sa.String(length=32), nullable=False),
        sa.Column("party", sa.String(length=520), nullable=False),
        sa.ForeignKeyConstraint(["lora"], ["loras.id"], name=op.f("fk_shares_lora"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("lora", "party", name=op.f("pk_shares")),
    )
    op.create_index("ix_shares_party", "shares", ["party"], unique=False)
    op.create_table(
        "tags",
        sa.Column("lora", sa.String(length=32), nullable=False),
        sa.Column("tag", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["lora"], ["loras.id"], name=op.f("fk_tags_lora"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("lora", "tag", name=op.f("pk_tags")),
    )
    op.create_table(
        "versions",
        sa.Column("lora", sa.String(length=32), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("object", sa.String(length=32), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("created_by", sa.String(length=512), nullable=False),
        sa.ForeignKeyConstraint(["lora"], ["loras.id"], name=op.f("fk_versions_lora"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["object"], ["objects.id"], name=op.f("fk_versions_object")),
        sa.PrimaryKeyConstraint("lora", "number", name=op.f("pk_versions")),
    )
    op.create_index("ix_versions_object", "versions", ["object"], unique=False)


def downgrade() -> None:
    for name in ("tags", "shares", "versions", "reservations", "removals", "audit", "loras", "objects", "owners"):
        op.drop_table(name)
