"""The fetcher as the cache uses it: what one leaves half done the other keeps, and the next attempt goes on with it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from e2e.stores.proxy import Fault
from lora_operator.artifacts import WEIGHTS_FILE
from lora_operator.cache.volume import VolumeStore
from lora_operator.fetch.errors import FetchError
from lora_operator.fetch.fetcher import Fetcher
from tests.fetch.ordered import CHUNK, LIMITS, STALL_SECONDS, Case, is_whole


async def test_a_version_appears_whole_after_a_fetch_that_was_broken_off(case: Case) -> None:
    store, order = VolumeStore(case.into), case.order
    files = {file.path: file.size_bytes for file in order.files}
    async with Fetcher(limits=replace(LIMITS, stall_seconds=STALL_SECONDS)) as fetcher:

        async def add() -> None:
            await store.add(order.name, order.fingerprint, files, lambda folder: fill(fetcher, folder))

        async def fill(fetcher: Fetcher, folder) -> None:  # type: ignore[no-untyped-def]
            await fetcher.fetch(order, folder)

        case.store.script.extend([Fault(stall_after=2 * CHUNK), Fault(status=404)])
        with pytest.raises(FetchError) as caught:
            await add()
        assert caught.value.reason == "NotFound"
        assert not store.holds(order.name, order.fingerprint)
        sent = case.store.sent_bytes
        assert sent
        case.store.sent_bytes = 0
        case.store.script.clear()
        await add()
    assert is_whole(store.path_of(order.name, order.fingerprint), case.files)
    assert case.store.sent_bytes < len(case.files[WEIGHTS_FILE])
