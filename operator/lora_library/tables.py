"""The tables. Times are seconds since the epoch, ids are 32 hex digits.

What an owner uses of a quota is nowhere counted: it is the sum over `objects` and `reservations`, so that nothing can
be counted twice, or be forgotten.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    text,
)

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

OWNERS = Table(
    "owners",
    METADATA,
    Column("subject", String(512), primary_key=True),
    Column("created_at", Float, nullable=False),
    Column("quota_bytes", BigInteger),  # None: the default
    Column("quota_adapters", Integer),
    # who writes this owner's adapters into store and cluster, until when
    Column("publisher", String(64), nullable=False, server_default=""),
    Column("publisher_until", Float, nullable=False, server_default="0"),
    # counts changes; what store and cluster show of them is `published_revision`
    Column("revision", BigInteger, nullable=False, server_default="0"),
    Column("published_revision", BigInteger, nullable=False, server_default="0"),
)

# The files of one adapter, as they came. Two uploads of the same content by one owner share one.
OBJECTS = Table(
    "objects",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("owner", String(512), ForeignKey("owners.subject"), nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("files", JSON, nullable=False),
    Column("described", JSON, nullable=False),
    # what a malware scan says: active, quarantined (until it does) or rejected
    Column("state", String(16), nullable=False, server_default="active"),
    Column("verdict", Text, nullable=False, server_default=""),  # why it was rejected, or why there is no answer yet
    Column("scan_tries", Integer, nullable=False, server_default="0"),
    Column("scan_after", Float, nullable=False, server_default="0"),
    Index("uq_objects_owner_fingerprint", "owner", "fingerprint", unique=True),
    Index("ix_objects_state", "state"),
)

LORAS = Table(
    "loras",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("owner", String(512), ForeignKey("owners.subject"), nullable=False),
    Column("name", String(128), nullable=False),
    Column("base_model", String(253), nullable=False),
    Column("engine_name", String(128), nullable=False),
    Column("part", Integer, nullable=False),  # which of the owner's LoraAdapters names it
    Column("description", Text, nullable=False),
    Column("attributes", JSON, nullable=False),  # what the uploader said of it
    Column("state", String(16), nullable=False),  # active, quarantined or rejected
    Column("current", Integer, nullable=False),  # number of the version that is served
    Column("pinned", Boolean, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),  # of the current version
    Column("last_used_at", Float),  # as far as it is known
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("deleted_at", Float),
    Column("published", Integer, nullable=False, server_default="0"),  # number of the version that the store publishes
    Index("ix_loras_owner", "owner"),
    Index("ix_loras_engine_name", "engine_name"),
    Index(
        "uq_loras_owner_name", "owner", "name", unique=True,
        sqlite_where=text("deleted_at IS NULL"), postgresql_where=text("deleted_at IS NULL"),
    ),
)  # fmt: skip

TAGS = Table(
    "tags",
    METADATA,
    Column("lora", String(32), ForeignKey("loras.id", ondelete="CASCADE"), primary_key=True),
    Column("tag", String(64), primary_key=True),
)

# Whom an adapter is shared with: user:SUBJECT, group:GROUP or everybody.
SHARES = Table(
    "shares",
    METADATA,
    Column("lora", String(32), ForeignKey("loras.id", ondelete="CASCADE"), primary_key=True),
    Column("party", String(520), primary_key=True),
    Index("ix_shares_party", "party"),
)

VERSIONS = Table(
    "versions",
    METADATA,
    Column("lora", String(32), ForeignKey("loras.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("object", String(32), ForeignKey("objects.id"), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("created_by", String(512), nullable=False),
    Column("card", Text, nullable=False, server_default=""),  # its README.md
    Index("ix_versions_object", "object"),
)

# Room that uploads under way have taken. One that is not renewed runs out.
RESERVATIONS = Table(
    "reservations",
    METADATA,
    Column("id", String(32), primary_key=True),  # and the id of the object to be
    Column("owner", String(512), ForeignKey("owners.subject"), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("expires_at", Float, nullable=False),
    Index("ix_reservations_owner", "owner"),
)

# Files that come in pieces, over several requests; the store has the pieces, and the reservation of the same id how
# long they are kept. `purpose`: upload (resumable), lfs (of the hub's API), draft (of a commit that is no whole adapter
# yet) or repository (named, and empty).
PARTIALS = Table(
    "partials",
    METADATA,
    Column("id", String(32), ForeignKey("reservations.id", ondelete="CASCADE"), primary_key=True),
    Column("owner", String(512), nullable=False),
    Column("purpose", String(16), nullable=False),
    Column("name", String(128), nullable=False),  # of the adapter
    Column("path", String(512), nullable=False),  # of the file
    Column("sha256", String(64), nullable=False),  # "" where it was not said
    Column("size_bytes", BigInteger, nullable=False),
    Column("created_at", Float, nullable=False),
    Index("ix_partials_owner", "owner"),
)

# What has to go from the store: noted with the change that makes it so, done afterwards, and again until it is.
REMOVALS = Table(
    "removals",
    METADATA,
    Column("prefix", String(512), primary_key=True),
    Column("noted_at", Float, nullable=False),
)

AUDIT = Table(
    "audit",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("at", Float, nullable=False),
    Column("actor", String(512), nullable=False),
    Column("owner", String(512), nullable=False),
    Column("action", String(32), nullable=False),
    Column("lora", String(32)),
    Column("detail", JSON, nullable=False),
    Index("ix_audit_at", "at"),
    Index("ix_audit_owner", "owner"),
)
