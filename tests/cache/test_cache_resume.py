"""One fetches, the others wait; and whoever comes after a death goes on from what is there."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from pathlib import Path

import pytest

from lora_operator.cache.limits import Limits
from lora_operator.cache.partial import ABANDONED_SECONDS
from lora_operator.cache.volume import StoreError, VolumeStore
from lora_operator.fetch.errors import FetchError
from tests.cache.dying import dies
from tests.cache.published_adapter import CONFIG, REPOSITORY, WEIGHTS, names_in
from tests.cache.stored_versions import Clock, add, content, files_of, filler, key_of, stored

FETCHER = """
import asyncio, sys
from pathlib import Path
from lora_operator.cache.volume import VolumeStore
from tests.cache.stored_versions import files_of, filler, key_of
async def fill(folder):
    print("filling", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await filler("a", 1000)(folder)
print("asking", flush=True)
asyncio.run(VolumeStore(Path(sys.argv[1])).add(*key_of("a"), files_of(1000), fill))
print("has it", flush=True)
"""


async def fetcher(root: Path) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", FETCHER, str(root), stdin=pipe, stdout=pipe, cwd=REPOSITORY
    )


async def said(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None
    return (await process.stdout.readline()).strip()


async def answer(process: asyncio.subprocess.Process) -> bytes:
    rest, _ = await process.communicate(b"go on\n")
    return rest


def leave_half(root: Path, name: str = "a") -> None:
    """A fetch that is killed after the config and a part of the weights."""

    async def fill(folder: Path) -> None:
        (folder / CONFIG).write_bytes(content(name, files_of(1000)[CONFIG]))
        (folder / f"{WEIGHTS}.part").write_bytes(b"half")
        os.kill(os.getpid(), 9)

    assert dies(lambda: VolumeStore(root).add(*key_of(name), files_of(1000), fill))


async def finish(folder: Path) -> None:
    assert (folder / f"{WEIGHTS}.part").read_bytes() == b"half"
    (folder / WEIGHTS).write_bytes(content("a", files_of(1000)[WEIGHTS]))


async def test_a_killed_fetch_is_gone_on_with_and_its_notes_are_not_published(root: Path) -> None:
    leave_half(root)
    store = VolumeStore(root)
    await store.start()
    assert stored(root) == {}
    assert (await store.statistics()).left_over_bytes == 14
    path = await store.add(*key_of("a"), files_of(1000), finish)
    assert names_in(path) == [CONFIG, WEIGHTS]
    assert stored(root) == {"a": 1000}
    assert names_in(root / ".partial") == []


async def test_what_nobody_goes_on_with_is_dropped_after_some_hours(root: Path) -> None:
    leave_half(root)
    at = next((root / ".partial").iterdir()).stat().st_mtime
    store = VolumeStore(root, clock=lambda: at + ABANDONED_SECONDS)
    assert await store.start() == 0
    await store.sweep((), now=at + ABANDONED_SECONDS + 1)
    assert names_in(root / ".partial") == []


async def test_what_nobody_goes_on_with_goes_before_any_version_when_room_is_needed(root: Path) -> None:
    clock = Clock()
    store = VolumeStore(root, limits=Limits(budget_bytes=2000), clock=clock)
    await add(store, "b")
    leave_half(root)
    clock.now += 1000
    await add(store, "c")
    assert set(stored(root)) == {"b", "c"}
    assert names_in(root / ".partial") == []


async def test_a_second_process_waits_for_the_first_and_finds_what_it_fetched(root: Path) -> None:
    first = await fetcher(root)
    assert [await said(first), await said(first)] == [b"asking", b"filling"]
    second = await fetcher(root)
    assert await said(second) == b"asking"
    assert await answer(first) == b"has it\n"
    assert await answer(second) == b"has it\n"  # and never "filling"
    assert stored(root) == {"a": 1000}


async def test_a_second_process_goes_on_when_the_first_is_killed(root: Path) -> None:
    first = await fetcher(root)
    assert [await said(first), await said(first)] == [b"asking", b"filling"]
    second = await fetcher(root)
    assert await said(second) == b"asking"
    first.kill()
    await first.communicate()
    assert await said(second) == b"filling"
    assert await answer(second) == b"has it\n"
    assert stored(root) == {"a": 1000}


async def test_callers_of_one_process_share_one_fetch(root: Path) -> None:
    store, calls = VolumeStore(root), list[str]()
    fill = filler("a", 1000, calls)
    await asyncio.gather(*(store.add(*key_of("a"), files_of(1000), fill) for _ in range(5)))
    assert calls == ["a"]
    assert (await store.statistics()).process.misses == 1


async def test_who_joins_a_prefetch_has_used_it(root: Path) -> None:
    store, began = VolumeStore(root), asyncio.Event()

    async def fill(folder: Path) -> None:
        began.set()
        await filler("a", 1000)(folder)

    ahead = asyncio.create_task(store.add(*key_of("a"), files_of(1000), fill, prefetch=True))
    await began.wait()
    await add(store, "a")
    await ahead
    assert [entry.unused for entry in await store.entries()] == [False]


@pytest.mark.parametrize("resumable", [True, False])
async def test_a_fetch_that_fails_leaves_its_part_to_the_next_if_it_can_go_on(root: Path, resumable: bool) -> None:
    async def cut(folder: Path) -> None:
        (folder / f"{WEIGHTS}.part").write_bytes(b"half")
        raise FetchError("Truncated", "the server hung up", retryable=True)

    store = VolumeStore(root)
    with pytest.raises(FetchError, match="hung up"):
        await store.add(*key_of("a"), files_of(1000), cut, resumable=resumable)
    assert bool(names_in(root / ".partial")) == resumable
    assert stored(root) == {}


async def test_a_part_that_is_larger_than_the_whole_is_dropped(root: Path) -> None:
    async def floods(folder: Path) -> None:
        (folder / WEIGHTS).write_bytes(bytes(1001))
        raise FetchError("TooLarge", "more than was promised", retryable=False)

    with pytest.raises(FetchError):
        await VolumeStore(root).add(*key_of("a"), files_of(1000), floods)
    assert names_in(root / ".partial") == []


async def test_what_did_not_arrive_whole_is_never_published(root: Path) -> None:
    store = VolumeStore(root)
    with pytest.raises(StoreError) as caught:
        await store.add(*key_of("a"), files_of(1001), filler("a", 1000))
    assert (caught.value.reason, caught.value.retryable) == ("Incomplete", True)
    assert WEIGHTS in str(caught.value)
    assert stored(root) == {}
    assert names_in(root / ".partial") == []


async def test_a_cancelled_caller_does_not_cancel_the_others_fetch(root: Path) -> None:
    store, began, go_on = VolumeStore(root), asyncio.Event(), asyncio.Event()

    async def fill(folder: Path) -> None:
        began.set()
        await go_on.wait()
        await filler("a", 1000)(folder)

    callers = [asyncio.create_task(store.add(*key_of("a"), files_of(1000), fill)) for _ in range(2)]
    await began.wait()
    callers[0].cancel()
    go_on.set()
    await callers[1]
    assert callers[0].cancelled()
    assert stored(root) == {"a": 1000}


async def test_start_finds_and_removes_half_states(root: Path) -> None:
    store = VolumeStore(root)
    for name in ("whole", "short", "lacking", "unknown", "held"):
        await add(store, name)
    shutil.copytree(root / "whole", root / "lacks-all")
    for name, file in (("short", WEIGHTS), ("held", WEIGHTS)):
        damaged = store.path_of(*key_of(name)) / file
        damaged.chmod(0o644)
        os.truncate(damaged, 5)
    (store.path_of(*key_of("lacking")) / CONFIG).unlink()
    (next((root / "lacks-all").iterdir()) / CONFIG).unlink()
    (root / ".index" / "@".join(key_of("unknown"))).write_text("{ damaged")
    (root / ".index" / "@".join(key_of("nowhere"))).write_text("{}\n")
    (root / ".index" / ".1234").write_text("written to be renamed")
    (root / "empty").mkdir()
    (root / "lost+found").mkdir()
    await store.hold("ns/pod", [key_of("held")])
    assert await VolumeStore(root).start() == 6
    assert names_in(root / "lost+found") == []
    assert [name for name in names_in(root) if name[0] != "."] == ["held", "lost+found", "unknown", "whole"]
    assert await VolumeStore(root).start() == 0
    # an engine may have the damaged one: it is neither removed nor handed out, and the same files take its place
    assert not await store.use(*key_of("held"))
    assert await store.hold("ns/pod", [key_of("held")]) == frozenset()
    await add(store, "held")
    assert await store.hold("ns/pod", [key_of("held")]) == {key_of("held")}
    statistics = await store.statistics()
    assert (statistics.used_bytes, statistics.in_use) == (3000, 1)
    assert stored(root) == {"held": 1000, "unknown": 1000, "whole": 1000}


async def test_versions_that_an_older_operator_stored_are_taken_over(root: Path) -> None:
    await add(VolumeStore(root), "a")
    shutil.rmtree(root / ".index")
    store = VolumeStore(root)
    assert await store.start() == 0
    assert [(entry.name, entry.size_bytes, entry.hits) for entry in await store.entries()] == [("a", 1000, 0)]
    await store.pin(*key_of("a"))
    assert [entry.pinned for entry in await VolumeStore(root).entries()] == [True]
