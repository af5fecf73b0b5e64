"""Makes the database anew from the notes in the store, where it was lost: adapters, versions, tags and sharing.

Quotas of single owners and the audit log are nowhere but in the database.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from lora_library.catalogue.storing import changed, set_tags
from lora_library.database import Database
from lora_library.model import ACTIVE
from lora_library.names import engine_name
from lora_library.stores.base import Store, StoreError
from lora_library.tables import LORAS, OBJECTS, SHARES, VERSIONS
from lora_library.uploads import OBJECT_NOTE

log = logging.getLogger(__name__)

_COPIED = (
    "id", "owner", "name", "base_model", "part", "description", "attributes", "state", "current", "pinned",
    "created_at", "updated_at", "deleted_at", "last_used_at",
)  # fmt: skip


async def rebuild(database: Database, store: Store) -> tuple[int, int]:
    """Adds what the database does not have, and changes nothing that it has: (adapters added, notes passed over)."""
    objects = await asyncio.to_thread(_notes, store, "objects/")
    loras = await asyncio.to_thread(_notes, store, "index/")
    added = passed = 0
    for note in loras:
        try:
            added += await _add(database, note, {each["id"]: each for each in objects})
        except (KeyError, TypeError, ValueError) as error:
            passed += 1
            log.warning("a note of the adapter %s cannot be used: %r", str(note.get("id"))[:40], error)
    return added, passed


def _notes(store: Store, prefix: str) -> list[dict[str, Any]]:
    found = []
    for each in store.keys(prefix):
        if each.key.endswith(f"/{OBJECT_NOTE}"):
            try:
                note = json.loads(store.get(each.key))
            except (ValueError, StoreError) as error:
                log.warning("%s cannot be read: %s", each.key, error)
                continue
            if isinstance(note, dict):
                found.append(note)
    return found


async def _add(database: Database, note: Mapping[str, Any], objects: Mapping[str, Mapping[str, Any]]) -> int:
    async with database.writing() as connection:
        subject = str(note["owner"])
        await database.lock_owner(connection, subject, time.time())
        if (await connection.execute(select(LORAS.c.id).where(LORAS.c.id == note["id"]))).first() is not None:
            return 0
        versions = [each for each in note["versions"] if each["object"] in objects]
        if not versions:
            raise ValueError("none of its versions is in the store")
        for each in versions:
            scanned = {"state": each.get("state", ACTIVE), "verdict": each.get("verdict", "")}
            await _add_object(connection, {**objects[each["object"]], **scanned})
        row = {name: note[name] for name in _COPIED} | {"engine_name": engine_name(subject, str(note["name"]))}
        current = next((each for each in versions if each["number"] == note["current"]), versions[0])
        row |= {"current": current["number"], "size_bytes": objects[current["object"]]["size_bytes"]}
        await connection.execute(insert(LORAS).values(**row, published=0))
        await connection.execute(
            insert(VERSIONS),
            [
                {key: each[key] for key in ("number", "object", "created_at", "created_by")}
                | {"lora": note["id"], "card": each.get("card", "")}
                for each in versions
            ],
        )
        await set_tags(connection, note["id"], note["tags"])
        if note["shared_with"]:
            await connection.execute(insert(SHARES), [{"lora": note["id"], "party": p} for p in note["shared_with"]])
        await changed(connection, subject)
        return 1


async def _add_object(connection: AsyncConnection, note: Mapping[str, Any]) -> None:
    if (await connection.execute(select(OBJECTS.c.id).where(OBJECTS.c.id == note["id"]))).first() is None:
        columns = (
            "id", "owner", "fingerprint", "size_bytes", "created_at", "files", "described", "state", "verdict",
        )  # fmt: skip
        await connection.execute(insert(OBJECTS).values(**{name: note[name] for name in columns}))
