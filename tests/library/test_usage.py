"""When adapters were used is taken from the operator's record; what the record does not say stays unknown."""

from __future__ import annotations

import datetime
from typing import Any, cast

from lora_library.catalogue import audit
from lora_library.catalogue.reading import Listing, find
from lora_library.catalogue.storing import settle
from lora_library.cluster.uses import Uses
from lora_library.counting import Fullness
from lora_library.database import Database
from lora_library.metrics import LibraryMetrics
from lora_library.model import Limits, NewVersion, Principal
from lora_library.names import engine_name
from lora_operator.api.usage_record import entry_of
from lora_operator.kube.client import Kube, KubeError

BEGAN = 1_800_000_000.0
ALICE = Principal("alice")


class Record:
    """The ConfigMap, as an API server has it."""

    def __init__(self) -> None:
        self.data: dict[str, str] = {}
        self.away = False

    async def config_map(self, namespace: str, name: str) -> dict[str, Any]:
        if self.away:
            raise KubeError(403, "no")
        return {"data": self.data}

    def used(self, name: str, at: float, namespace: str = "models") -> None:
        key, value = entry_of(namespace, name, datetime.datetime.fromtimestamp(at, datetime.UTC))
        self.data[key] = value


async def stored(database: Database, name: str, now: float) -> str:
    new = NewVersion(name, "tiny", f"{name:0>32}", f"print-{name}", 800, (), {})
    return (await settle(database, ALICE, new, Limits(), now)).id


async def test_uses_are_taken_from_the_record_once_and_the_first_is_noted(database: Database) -> None:
    record = Record()
    uses = Uses(cast(Kube, record), database, "models", "system", lambda: BEGAN + 500)
    style, idle = await stored(database, "style", BEGAN), await stored(database, "idle", BEGAN)

    async def last() -> dict[str, float | None]:
        found, _ = await find(database, ALICE, Listing(sort="usage"))
        return {each.name: each.last_used_at for each in found}

    record.used(engine_name("alice", "style"), BEGAN - 60)  # of another that had this name before
    record.used(engine_name("alice", "idle"), BEGAN + 60, "elsewhere")
    record.used(engine_name("bob", "style"), BEGAN + 60)
    record.data["nonsense"] = "{"
    assert await uses.look() and uses.known
    assert await last() == {"style": None, "idle": None}
    for at in (100, 200, 150):
        record.used(engine_name("alice", "style"), BEGAN + at)
        assert await uses.look()
    assert list((await last()).items()) == [("style", BEGAN + 200), ("idle", None)], "the last used is the first"
    entries, _ = await audit.entries(database, owner="alice", lora=style, limit=10, offset=0)
    (first,) = [each for each in entries if each["action"] == "first use"]
    assert (first["actor"], first["detail"]["used_at"]) == ("", BEGAN + 100)
    record.data.clear()  # it is tidied up
    assert await uses.look() and (await last())["style"] == BEGAN + 200
    record.used(engine_name("alice", "idle"), BEGAN + 9000)  # by a clock that is wrong
    await uses.look()
    assert (await last())["idle"] == BEGAN + 500
    record.away = True
    assert not await uses.look() and not uses.known
    assert idle


async def test_users_are_counted_by_how_full_their_quotas_are(database: Database) -> None:
    metrics = LibraryMetrics()
    for name in ("a", "b"):
        await stored(database, name, BEGAN)
    for limits, band in ((Limits(), "0-50"), (Limits(quota_bytes=1900), "80-95"), (Limits(quota_adapters=2), "95-100")):
        await Fullness(database, limits, metrics).measure()
        text = metrics.exposition().decode()
        assert f'lora_operator_library_owners{{used="{band}"}} 1.0' in text and text.count('"} 1.0') == 1, band
