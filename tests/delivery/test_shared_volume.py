"""The shared volume way, and which way a pod gets: one fetch for all pods, progress to each, nothing lost at a stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from e2e.stores.proxy import Fault
from lora_operator.artifacts import WEIGHTS_FILE
from lora_operator.cache.volume import StoreError, VolumeStore
from lora_operator.delivery import DeliveryRouter
from lora_operator.delivery.shared import SharedVolume
from lora_operator.fetch.errors import FetchError
from lora_operator.fetch.fetcher import Fetcher
from lora_operator.fetch.pace import Bandwidth
from tests.core.builders import a_pod
from tests.delivery.wishes import Located, a_pod_with_an_agent, a_wish
from tests.fetch.ordered import LIMITS, Case, is_whole


def ignore(done_bytes: int) -> None:
    """Nobody wants to know how far it is."""


class Volume:
    def __init__(self, root: Path, fetcher: Fetcher, case: Case) -> None:
        root.mkdir()
        self.store = VolumeStore(root)
        self.locate = Located(case.order)
        self.case = case
        self.way = SharedVolume(self.store, fetcher, self.locate)
        self.folder = root / case.order.name / case.order.fingerprint

    async def unused(self) -> bool:
        (entry,) = await self.store.entries()
        return entry.unused


@pytest.fixture
async def volume(tmp_path: Path, case: Case) -> AsyncIterator[Volume]:
    async with Fetcher(limits=LIMITS) as fetcher:
        made = Volume(tmp_path / "volume", fetcher, case)
        yield made
        await made.way.stop()


async def test_many_pods_share_one_fetch_and_all_are_told_how_far_it_is(volume: Volume, case: Case) -> None:
    case.store.bandwidth = Bandwidth(150_000)
    reported: list[list[int]] = [[] for _ in range(20)]
    pods = [(a_pod(f"p{number}"), reported[number].append) for number in range(20)]
    await asyncio.gather(*(volume.way.bring(pod, a_wish(case), report) for pod, report in pods))
    assert is_whole(volume.folder, case.files)
    assert case.store.sent_bytes == len(case.files[WEIGHTS_FILE])
    assert volume.locate.asked == 1
    assert all(each == reported[0] == sorted(each) and each[-1] == case.order.size_bytes for each in reported)


async def test_what_is_on_the_volume_needs_no_source(volume: Volume, case: Case) -> None:
    await volume.way.bring(a_pod(), a_wish(case), ignore)
    await volume.way.bring(a_pod("p1"), a_wish(case, known=False), ignore)
    assert volume.locate.asked == 1


async def test_what_is_not_there_and_whose_source_is_away_is_a_reason(volume: Volume, case: Case) -> None:
    with pytest.raises(StoreError) as caught:
        await volume.way.bring(a_pod(), a_wish(case, known=False), ignore)
    assert (caught.value.reason, caught.value.retryable) == ("SourceUnavailable", True)


async def test_a_pod_that_is_given_up_does_not_take_the_fetch_from_the_others(volume: Volume, case: Case) -> None:
    case.store.bandwidth = Bandwidth(150_000)
    first = asyncio.create_task(volume.way.bring(a_pod(), a_wish(case), ignore))
    await case.store.asked.wait()
    second = asyncio.create_task(volume.way.bring(a_pod("p1"), a_wish(case), ignore))
    first.cancel()
    await second
    assert case.store.sent_bytes == len(case.files[WEIGHTS_FILE])


async def test_a_failure_comes_to_all_who_wait_and_the_next_try_is_a_new_one(volume: Volume, case: Case) -> None:
    case.store.always = Fault(status=500)
    tries = [volume.way.bring(a_pod(f"p{number}"), a_wish(case), ignore) for number in range(3)]
    failures = await asyncio.gather(*tries, return_exceptions=True)
    assert [getattr(failure, "reason", failure) for failure in failures] == ["ServerError"] * 3
    case.store.always = Fault()
    await volume.way.bring(a_pod(), a_wish(case), ignore)
    assert is_whole(volume.folder, case.files)


async def test_early_files_are_not_counted_as_used_until_a_pod_wants_them(volume: Volume, case: Case) -> None:
    await volume.way.prefetch(a_pod(), a_wish(case))
    assert await volume.unused()
    asked = len(case.store.seen)
    await volume.way.prefetch(a_pod(), a_wish(case))
    await volume.way.bring(a_pod(), a_wish(case), ignore)
    assert not await volume.unused()
    assert len(case.store.seen) == asked


async def test_a_pod_that_wants_what_is_just_being_brought_early_joins(volume: Volume, case: Case) -> None:
    case.store.bandwidth = Bandwidth(150_000)
    early = asyncio.create_task(volume.way.prefetch(a_pod(), a_wish(case)))
    await case.store.asked.wait()
    reported: list[int] = []
    await volume.way.bring(a_pod("p1"), a_wish(case), reported.append)
    await early
    assert reported[-1] == case.order.size_bytes
    assert case.store.sent_bytes == len(case.files[WEIGHTS_FILE])
    assert not await volume.unused()


async def test_links_that_run_out_are_renewed_once_for_all(volume: Volume, case: Case) -> None:
    case.store.script.extend([Fault(status=403)])
    await asyncio.gather(*(volume.way.bring(a_pod(f"p{number}"), a_wish(case), ignore) for number in range(5)))
    assert volume.locate.asked == 2
    assert is_whole(volume.folder, case.files)


async def test_a_stop_cuts_off_what_nobody_ends_otherwise_and_it_goes_on_from_there(volume: Volume, case: Case) -> None:
    case.store.always = Fault(stall_after=3000)
    waiting = asyncio.create_task(volume.way.bring(a_pod(), a_wish(case), ignore))
    await case.store.asked.wait()
    waiting.cancel()
    await volume.way.stop()
    assert not volume.folder.exists()
    case.store.always = Fault()
    await volume.way.bring(a_pod(), a_wish(case), ignore)
    assert is_whole(volume.folder, case.files)


async def test_a_content_that_is_not_what_was_inspected_is_not_published(volume: Volume, case: Case) -> None:
    case.store.always = Fault(corrupt_at=9000)
    with pytest.raises(FetchError) as caught:
        await volume.way.bring(a_pod(), a_wish(case), ignore)
    assert caught.value.reason == "DigestMismatch"
    assert not volume.folder.exists()


async def test_pods_with_an_agent_get_files_through_it_and_others_by_the_volume(volume: Volume, case: Case) -> None:
    class Noting:
        def __init__(self) -> None:
            self.seen: list[str] = []

        async def bring(self, record: object, wanted: object, report: object) -> None:
            self.seen.append("bring")

        async def prefetch(self, record: object, wanted: object) -> None:
            self.seen.append("prefetch")

    by_agent = Noting()
    ways = DeliveryRouter(volume.way, by_agent)
    await ways.bring(a_pod_with_an_agent(8090), a_wish(case), ignore)
    await ways.prefetch(a_pod_with_an_agent(8090), a_wish(case))
    assert by_agent.seen == ["bring", "prefetch"] and not volume.folder.exists()
    await ways.prefetch(a_pod(), a_wish(case))
    await ways.bring(a_pod(), a_wish(case), ignore)
    assert by_agent.seen == ["bring", "prefetch"] and is_whole(volume.folder, case.files)
