"""The user library with many users: lists of one process, and what its LoraAdapters come to."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path
from typing import Any

from sqlalchemy import Table, insert

from bench.figures import Figure
from bench.router.clients import load
from e2e.controlplane.processes import free_ports
from lora_library.catalogue.storing import PART_SIZE
from lora_library.cluster.resources import Template, groups, resource
from lora_library.database import Database
from lora_library.model import Lora
from lora_library.names import engine_name
from lora_library.tables import LORAS, OBJECTS, OWNERS, TAGS, VERSIONS

USERS, EACH, ASKING, REQUESTS, CONNECTIONS = 10_000, 5, 50, 4_000, 8
BASE_MODEL = "meta-llama/Llama-3.1-8B-Instruct"


def library(directory: Path, runs: int) -> list[Figure]:
    """the user library with 10,000 users of 5 adapters: list requests of one process, sizes of LoraAdapters"""
    directory.mkdir(parents=True, exist_ok=True)
    return asyncio.run(_measure(directory))


async def _measure(directory: Path) -> list[Figure]:
    await _fill(directory / "library.db")
    users = [f"user-{number:05}@example.com" for number in random.Random(4).sample(range(USERS), ASKING)]
    (directory / "tokens.json").write_text(json.dumps({f"token-of-{each}": {"subject": each} for each in users}))
    port = free_ports(1)[0]
    words = ["library", "--host", "127.0.0.1", "--port", str(port), "--metrics-port", "0", "--no-cluster",
             "--database", str(directory / "library.db"), "--store", str(directory / "store"),
             "--work-folder", str(directory / "work"), "--token-file", str(directory / "tokens.json"),
             "--log-format", "console"]  # fmt: skip
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "lora_operator.cli.main", *words, stdout=PIPE, stderr=STDOUT
    )
    assert child.stdout is not None
    try:
        said = b""
        while b"library on port" not in said:
            said += (line := await child.stdout.readline())
            assert line, said.decode()
        await asyncio.sleep(1)
        requests = [_list(users[number % ASKING]) for number in range(REQUESTS)]
        await load(child.pid, port, requests[:200], CONNECTIONS)
        many = await load(child.pid, port, requests, CONNECTIONS)
    finally:
        child.terminate()
        await child.communicate()
    full = len(json.dumps(_full()).encode())
    return [
        Figure("library: lists per core", (many.per_core,), "/s", ">= 500", "", many.per_core >= 500,
               f"{USERS} users of {EACH} adapters, SQLite, {CONNECTIONS} connections, by the process's CPU time"),
        Figure("library: one list", tuple(many.seconds), "s", ""),
        Figure("library: the largest LoraAdapter", (full / 1000,), "kB", "<= 500", "", full <= 500_000,
               f"{PART_SIZE} adapters of one owner with names of 100 characters, as written; without its status"),
    ]  # fmt: skip


def _list(user: str) -> bytes:
    return (
        f"GET /api/loras?limit=50 HTTP/1.1\r\nHost: library\r\nAuthorization: Bearer token-of-{user}\r\n\r\n"
    ).encode()


def _lora(number: int, owner: str, name: str) -> dict[str, Any]:
    return {
        "id": f"{number:032x}", "owner": owner, "name": name, "base_model": BASE_MODEL,
        "engine_name": engine_name(owner, name), "part": 0, "description": "", "attributes": {}, "state": "active",
        "current": 1, "pinned": False, "size_bytes": 50 << 20, "last_used_at": None, "created_at": 1e9 + number,
        "updated_at": 1e9 + number, "deleted_at": None, "published": 1,
    }  # fmt: skip


async def _fill(path: Path) -> None:
    database = Database(str(path))
    await database.migrate()
    owners = [f"user-{number:05}@example.com" for number in range(USERS)]
    loras = [
        _lora(number * EACH + each, owner, f"style-{each}")
        for number, owner in enumerate(owners)
        for each in range(EACH)
    ]
    ids = [str(each["id"]) for each in loras]
    rows: dict[Table, list[dict[str, Any]]] = {
        OWNERS: [{"subject": owner, "created_at": 1e9} for owner in owners],
        OBJECTS: [
            {"id": each["id"], "owner": each["owner"], "fingerprint": each["id"], "size_bytes": 50 << 20,
             "created_at": 1e9, "files": [], "described": {}}
            for each in loras
        ],
        LORAS: loras,
        VERSIONS: [{"lora": each, "number": 1, "object": each, "created_at": 1e9, "created_by": "x"} for each in ids],
        TAGS: [{"lora": each, "tag": tag} for each in ids for tag in ("poetry", "v1")],
    }  # fmt: skip
    async with database.writing() as connection:
        for table, values in rows.items():
            await connection.execute(insert(table), values)
    await database.close()


def _full() -> object:
    """A LoraAdapter with as many adapters as one may have, of long names."""
    loras = [
        Lora(**_lora(number, "user@example.com", f"{number:03}" + "x" * 97)) for number in range(PART_SIZE)
    ]  # fmt: skip
    ((group, members),) = groups(loras).items()
    source = {"type": "s3", "repository": "bucket/loras/" + "published/" * 3}
    return resource(
        "user@example.com", group, members, {each.id: each.id for each in loras}, Template("models"), lambda _: source
    )
