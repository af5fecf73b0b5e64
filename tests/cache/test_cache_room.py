"""A budget: room is made before a fetch, by the policy, and never at the cost of what is needed."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from lora_operator.artifacts import CONFIG_FILE as CONFIG
from lora_operator.artifacts import WEIGHTS_FILE as WEIGHTS
from lora_operator.cache.limits import Limits
from lora_operator.cache.store_error import CacheFull
from lora_operator.cache.victims import Evicted, Why
from lora_operator.cache.volume import StoreError, VolumeStore
from tests.cache.published_adapter import names_in
from tests.cache.stored_versions import Clock, add, files_of, filler, key_of, stored

DAY = 86400.0


class Cache:
    """A cache of 3000 bytes on a clock of its own, and what it told."""

    def __init__(self, root: Path, **options: object) -> None:
        self.clock = Clock()
        self.told: list[Evicted] = []
        self.in_use: set[tuple[str, str]] | None = set()
        limits = Limits(budget_bytes=3000, ttl_seconds=7 * DAY, grace_seconds=10)
        self.store = VolumeStore(
            root, limits=limits, in_use=lambda: self.in_use, on_evicted=self.told.append, clock=self.clock, **options
        )  # type: ignore[arg-type]

    async def add(self, *names: str, size_bytes: int = 1000, prefetch: bool = False) -> None:
        for name in names:
            self.clock.now += 100
            await add(self.store, name, size_bytes, prefetch=prefetch)

    @property
    def gone(self) -> list[tuple[str, Why]]:
        return [(evicted.name, evicted.why) for evicted in self.told]


@pytest.fixture
def cache(root: Path) -> Cache:
    return Cache(root)


async def test_the_least_recently_used_goes_when_room_is_needed(cache: Cache, root: Path) -> None:
    await cache.add("a", "b", "c")
    cache.clock.now += 100
    assert await cache.store.use(*key_of("a"))
    await cache.add("d")
    assert set(stored(root)) == {"a", "c", "d"}
    assert cache.told == [Evicted(*key_of("b"), 1000, Why.ROOM)]


async def test_room_is_made_before_the_fetch_begins(cache: Cache, root: Path) -> None:
    await cache.add("a", "b", "c")
    cache.clock.now += 100
    seen: list[set[str]] = []

    async def fill(folder: Path) -> None:
        seen.append(set(stored(root)))
        await filler("d", 1500)(folder)

    await cache.store.add(*key_of("d"), files_of(1500), fill)
    assert seen == [{"c"}]


async def test_what_is_in_use_pinned_or_leased_stays_and_the_refusal_has_the_sums(cache: Cache, root: Path) -> None:
    await cache.add("a", "b", "c")
    cache.in_use = {key_of("a")}
    await cache.store.pin(*key_of("b"))
    assert await cache.store.hold("ns/pod", [key_of("c"), key_of("absent")]) == {key_of("c")}
    with pytest.raises(CacheFull) as caught:
        await cache.add("d")
    error = caught.value
    assert (error.reason, error.retryable, error.need_bytes, error.budget_bytes) == ("CacheFull", True, 1000, 3000)
    assert (error.in_use_bytes, error.pinned_bytes, error.recent_bytes) == (2000, 1000, 0)
    assert all(word in str(error) for word in ("d", "1000", "3000", "2000", "raise the budget"))
    assert set(stored(root)) == {"a", "b", "c"}
    assert names_in(root / ".partial") == []
    await cache.store.let_go("ns/pod")
    await cache.add("d")
    assert cache.gone == [("c", Why.ROOM)]


async def test_nothing_goes_in_vain(cache: Cache, root: Path) -> None:
    await cache.add("a", "b", "c")
    cache.in_use = {key_of("a")}
    with pytest.raises(CacheFull):
        await cache.add("d", size_bytes=2500)
    assert set(stored(root)) == {"a", "b", "c"}


async def test_nothing_goes_while_nobody_can_tell_what_is_in_use(cache: Cache, root: Path) -> None:
    await cache.add("a", "b", "c")
    cache.in_use = None
    with pytest.raises(CacheFull):
        await cache.add("d")
    assert set(stored(root)) == {"a", "b", "c"}


async def test_what_was_asked_for_a_moment_ago_is_about_to_be_loaded_and_stays(cache: Cache, root: Path) -> None:
    await cache.add("a", "b", "c")
    cache.clock.now += 100
    await cache.store.use(*key_of("a"))
    await cache.store.use(*key_of("b"))
    cache.clock.now += 5
    with pytest.raises(CacheFull) as caught:
        await add(cache.store, "d", 2000)
    assert caught.value.recent_bytes == 2000
    cache.clock.now += 10
    await add(cache.store, "d", 2000)
    assert set(stored(root)) == {"b", "d"}


async def test_a_version_larger_than_the_whole_budget_is_refused_for_good(cache: Cache, root: Path) -> None:
    with pytest.raises(StoreError) as caught:
        await cache.add("a", size_bytes=3001)
    assert (caught.value.reason, caught.value.retryable) == ("LargerThanCache", False)


async def test_the_expired_and_the_never_used_go_before_the_policy_is_asked(cache: Cache, root: Path) -> None:
    await cache.add("old")
    cache.clock.now += 6 * DAY
    await cache.add("ahead", prefetch=True)
    await cache.add("young")
    cache.clock.now += 2 * DAY
    await cache.store.use(*key_of("young"))
    cache.clock.now += 100
    await cache.add("b")
    await cache.add("c")
    assert cache.gone == [("old", Why.EXPIRED), ("ahead", Why.UNUSED_PREFETCH)]


async def test_a_prefetched_version_counts_as_used_when_somebody_came_for_it(cache: Cache) -> None:
    await cache.add("a", prefetch=True)
    assert (await cache.store.statistics()).unused_prefetched == 1
    await cache.add("a", prefetch=True)
    assert [entry.unused for entry in await cache.store.entries()] == [True]
    await cache.add("a")
    statistics = await cache.store.statistics()
    assert (statistics.unused_prefetched, statistics.total.hits, statistics.total.misses) == (0, 1, 1)


async def test_statistics_survive_the_process_and_count_thrash(cache: Cache, root: Path) -> None:
    await cache.add("a", "b", "c", "d", "a", "a")
    statistics = await cache.store.statistics()
    assert (statistics.process.hits, statistics.process.misses, statistics.process.evictions) == (1, 5, 2)
    assert (statistics.process.thrash, statistics.process.evicted_bytes) == (1, 2000)
    again = await Cache(root).store.statistics()
    assert again.total == statistics.total == statistics.process
    assert again.process.misses == 0
    assert (again.versions, again.used_bytes, again.budget_bytes) == (3, 3000, 3000)
    assert again.oldest_used_at == 1_000_300


async def test_an_eviction_that_lasted_an_hour_is_no_thrash(cache: Cache) -> None:
    await cache.add("a", "b", "c", "d")
    cache.clock.now += 3600
    await cache.add("a")
    assert (await cache.store.statistics()).total.thrash == 0


async def test_a_person_may_remove_what_nobody_needs(cache: Cache, root: Path) -> None:
    await cache.add("a", "b", "c")
    cache.in_use = {key_of("a")}
    await cache.store.pin(*key_of("b"))
    for name, reason in (("a", "InUse"), ("b", "Pinned")):
        with pytest.raises(StoreError) as caught:
            await cache.store.evict(*key_of(name))
        assert caught.value.reason == reason
    assert await cache.store.evict(*key_of("c"))
    assert not await cache.store.evict(*key_of("c"))
    await cache.store.pin(*key_of("b"), pinned=False)
    assert await cache.store.evict(*key_of("b"))
    assert set(stored(root)) == {"a"}
    with pytest.raises(StoreError) as caught:
        await cache.store.pin(*key_of("c"))
    assert caught.value.reason == "NotStored"


async def test_pins_and_leases_survive_sweeps_and_the_ttl_counts_from_the_last_use(cache: Cache, root: Path) -> None:
    await cache.add("pinned", "held", "old")
    await cache.store.pin(*key_of("pinned"))
    await cache.store.hold("ns/pod", [key_of("held")])
    cache.clock.now += 6.9 * DAY
    assert await cache.store.sweep(()) == ()
    cache.clock.now += 0.2 * DAY
    assert await cache.store.sweep(()) == (key_of("old"),)
    assert await Cache(root).store.holders() == ["ns/pod"]
    cache.clock.now = (root / ".in-use" / "ns@pod.json").stat().st_mtime + 8 * DAY  # never renewed
    assert await cache.store.sweep(()) == (key_of("held"),)


async def test_nothing_goes_while_a_lease_cannot_be_read(cache: Cache, root: Path) -> None:
    await cache.add("a", "b", "c")
    await cache.store.hold("ns/pod", [key_of("a")])
    (root / ".in-use" / "ns@pod.json").write_text("{")
    with pytest.raises(StoreError) as caught:
        await cache.add("d")
    assert caught.value.reason == "LeaseUnreadable"
    assert "ns@pod.json" in str(caught.value)
    assert set(stored(root)) == {"a", "b", "c"}


def _cut(folder: Path) -> None:
    (folder / WEIGHTS).chmod(0o644)
    os.truncate(folder / WEIGHTS, 5)


def _link(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "elsewhere")
    (folder / WEIGHTS).symlink_to("elsewhere")


@pytest.mark.parametrize("damage", [_cut, _link, lambda folder: (folder / CONFIG).unlink(), shutil.rmtree])
async def test_what_was_whole_and_is_damaged_is_not_handed_out_until_it_is_whole_again(
    cache: Cache, damage: Callable[[Path], None]
) -> None:
    await cache.add("a", "b")
    both = {key_of("a"), key_of("b")}
    assert await cache.store.hold("ns/pod", both) == both
    damage(cache.store.path_of(*key_of("a")))
    assert await cache.store.hold("ns/pod", both) == {key_of("b")}
    assert not await cache.store.has(*key_of("a")) and not await cache.store.use(*key_of("a"))
    await cache.add("a")
    assert await cache.store.hold("ns/pod", both) == both


async def test_a_folder_in_the_place_of_a_version_that_is_a_link_is_not_followed(cache: Cache, root: Path) -> None:
    await cache.add("a")
    assert await cache.store.hold("ns/pod", [key_of("a")]) == {key_of("a")}
    folder = cache.store.path_of(*key_of("a"))
    folder.rename(root / "elsewhere")
    folder.symlink_to(root / "elsewhere")
    with pytest.raises(StoreError) as caught:
        await cache.store.hold("ns/pod", [key_of("a")])
    assert caught.value.reason == "PathOccupied"


async def test_holding_the_same_again_renews_it_and_waits_for_no_disk(
    cache: Cache, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cache.add("a")
    await cache.store.hold("ns/pod", [key_of("a")])
    lease = root / ".in-use" / "ns@pod.json"
    os.utime(lease, (1.0, 1.0))
    before = lease.stat()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", None)
        await cache.store.hold("ns/pod", [key_of("a")])
    after = lease.stat()
    assert after.st_ino == before.st_ino and after.st_mtime > before.st_mtime + DAY
    await cache.store.hold("ns/pod", [])
    assert await cache.store.held_by("ns/pod") == frozenset()


@pytest.mark.parametrize("holder", ["", "../x", "a/b/c", ".x", "a b"])
async def test_a_holder_is_a_pods_name(cache: Cache, holder: str) -> None:
    with pytest.raises(StoreError) as caught:
        await cache.store.hold(holder, ())
    assert caught.value.reason == "InvalidHolder"


def full_once(name: str, error: Exception, calls: list[str]) -> Callable[[Path], Awaitable[None]]:
    async def fill(folder: Path) -> None:
        calls.append(name)
        if len(calls) == 1:
            raise error
        await filler(name, 1000)(folder)

    return fill


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
async def test_a_full_disk_costs_an_old_version_even_within_the_budget(cache: Cache, root: Path, code: int) -> None:
    await cache.add("a", "b")
    cache.clock.now += 100
    calls: list[str] = []
    fill = full_once("c", OSError(code, "full"), calls)
    await cache.store.add(*key_of("c"), files_of(1000), fill)
    assert calls == ["c", "c"]
    assert set(stored(root)) == {"b", "c"}
    assert cache.gone == [("a", Why.DISK_FULL)]


async def test_a_full_disk_without_anything_to_remove_is_said_so_and_leaves_nothing(cache: Cache, root: Path) -> None:
    await cache.add("a")
    cache.in_use = {key_of("a")}
    cache.clock.now += 100
    calls: list[str] = []
    with pytest.raises(StoreError) as caught:
        full = StoreError("DiskFull", "full", retryable=True)
        await cache.store.add(*key_of("c"), files_of(1000), full_once("c", full, calls))
    assert (caught.value.reason, caught.value.retryable, calls) == ("DiskFull", True, ["c"])
    assert set(stored(root)) == {"a"}
    assert names_in(root / ".partial") == []


async def test_what_others_are_fetching_counts_against_the_budget(cache: Cache, root: Path) -> None:
    async def fill(folder: Path) -> None:
        with pytest.raises(CacheFull) as caught:
            await Cache(root).store.add(*key_of("b"), files_of(2000), filler("b", 2000))
        assert caught.value.fetching_bytes == 2000
        await filler("a", 2000)(folder)

    await cache.store.add(*key_of("a"), files_of(2000), fill)
    assert stored(root) == {"a": 2000}


async def test_what_somebody_removed_by_hand_makes_room_too(cache: Cache, root: Path) -> None:
    await cache.add("a", "b", "c")
    shutil.rmtree(root / "b")
    await cache.add("d")
    assert set(stored(root)) == {"a", "c", "d"}
    assert cache.told == []


async def test_holds_the_budget_on_a_volume_without_locks_too(
    cache: Cache, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "no locks here")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    await cache.add("a", "b", "c")
    await cache.add("d")
    assert set(stored(root)) == {"b", "c", "d"}
    assert names_in(root / ".partial") == []


async def test_serves_from_a_volume_that_may_only_be_read(
    cache: Cache, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*arguments: object, **options: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    await cache.add("a")
    real = os.open

    def only_read(path: str, flags: int, *mode: int, **options: int) -> int:
        return read_only() if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) else real(path, flags, *mode, **options)

    monkeypatch.setattr(os, "utime", read_only)
    monkeypatch.setattr(os, "mkdir", read_only)
    monkeypatch.setattr(os, "open", only_read)
    assert await cache.store.use(*key_of("a"))
    await cache.add("a")
    with pytest.raises(StoreError) as caught:
        await cache.add("b")
    assert (caught.value.reason, caught.value.retryable) == ("ReadOnly", False)
