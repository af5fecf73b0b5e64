"""What Alembic runs: the steps, on the connection that `Database.migrate` has opened."""

from __future__ import annotations

from alembic import context

from lora_library.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
with context.begin_transaction():
    context.run_migrations()
