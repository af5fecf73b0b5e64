"""Quotas hold at every moment, however many upload at once."""

from __future__ import annotations

import asyncio
import secrets

from lora_library.catalogue.owners import quota
from lora_library.catalogue.storing import settle
from lora_library.database import Database
from lora_library.model import Limits, NewVersion, Principal
from lora_library.problems import Problem
from lora_library.quota import reserve

LIMITS = Limits(quota_bytes=100, quota_adapters=3)
ALICE = Principal("alice")


def a_version(name: str, size_bytes: int, fingerprint: str = "") -> NewVersion:
    return NewVersion(name, "tiny", secrets.token_hex(16), fingerprint or secrets.token_hex(8), size_bytes, (), {})


async def store(database: Database, new: NewVersion, limits: Limits = LIMITS, *, now: float = 1000.0) -> str:
    """What came of an upload: "" or the code of its problem."""
    try:
        await reserve(database, "alice", new.object_id, new.size_bytes, limits, now=now, until=now + 60)
        await asyncio.sleep(0)
        await settle(database, ALICE, new, limits, now)
    except Problem as problem:
        return problem.code
    return ""


async def test_of_two_uploads_that_fit_only_singly_one_is_refused(database: Database) -> None:
    for round_ in range(5):
        limits = Limits(quota_bytes=100 * (round_ + 1), quota_adapters=100)
        ended = await asyncio.gather(*(store(database, a_version(f"a{round_}{n}", 100), limits) for n in range(2)))
        assert sorted(ended) == ["", "QUOTA_EXCEEDED"]


async def test_many_uploads_at_once_fill_a_quota_exactly(database: Database) -> None:
    limits = Limits(quota_bytes=100, quota_adapters=100)
    ended = await asyncio.gather(*(store(database, a_version(f"a{n}", 30), limits) for n in range(12)))
    assert sorted(ended) == [""] * 3 + ["QUOTA_EXCEEDED"] * 9
    usage = await quota(database, "alice", limits, 1000.0)
    # those that were refused while others held room leave nothing behind
    assert (usage.used_bytes, usage.adapters) == (90, 3)


async def test_adapters_are_counted_as_exactly_as_bytes(database: Database) -> None:
    ended = await asyncio.gather(*(store(database, a_version(f"a{n}", 1)) for n in range(8)))
    assert sorted(ended) == [""] * 3 + ["QUOTA_EXCEEDED"] * 5


async def test_what_a_killed_upload_had_reserved_counts_until_it_runs_out(database: Database) -> None:
    await reserve(database, "alice", secrets.token_hex(16), 80, LIMITS, now=1000.0, until=1060.0)
    assert await store(database, a_version("b", 30)) == "QUOTA_EXCEEDED"
    assert await store(database, a_version("b", 30), now=1061.0) == ""
    assert (await quota(database, "alice", LIMITS, 1061.0)).reserved_bytes == 0


async def test_an_upload_whose_reservation_ran_out_is_measured_anew(database: Database) -> None:
    slow = a_version("slow", 80)
    await reserve(database, "alice", slow.object_id, 80, LIMITS, now=1000.0, until=1060.0)
    assert await store(database, a_version("quick", 60), now=1061.0) == ""
    try:
        await settle(database, ALICE, slow, LIMITS, 1062.0)
    except Problem as problem:
        assert (problem.code, problem.more["available"]) == ("QUOTA_EXCEEDED", 40)
    else:
        raise AssertionError("both were stored")


async def test_the_same_content_takes_room_once(database: Database) -> None:
    assert await store(database, a_version("a", 60, "same")) == ""
    assert await store(database, a_version("b", 60, "other")) == "QUOTA_EXCEEDED"
    await settle(database, ALICE, a_version("b", 60, "same"), LIMITS, 1000.0)
    usage = await quota(database, "alice", LIMITS, 1000.0)
    assert (usage.used_bytes, usage.adapters) == (60, 2)
