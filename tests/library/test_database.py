"""The migrations make the tables that the code speaks of, on both kinds of database."""

from __future__ import annotations

from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from lora_library.database import BadDatabase, Database
from lora_library.tables import METADATA


async def test_the_migrations_make_the_tables_and_can_be_run_again(database: Database) -> None:
    await database.migrate()

    def differences(connection: Any) -> list[Any]:
        return list(compare_metadata(MigrationContext.configure(connection), METADATA))

    async with database.reading() as connection:
        assert await connection.run_sync(differences) == []


@pytest.mark.parametrize("address", ["mysql://host/name", "://"])
def test_another_kind_of_database_is_refused_with_what_to_use(address: str) -> None:
    with pytest.raises(BadDatabase, match=r"SQLite|path"):
        Database(address)
