"""Adapters whose files change: nothing is read twice, and a good version stays until its successor is good too."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lora_operator.sources import FoundAdapter, LocalSource, Resolution, SourceRequest
from lora_operator.sources import local as local_module
from tests.artifacts.written_adapter import BASE, write_adapter

WEIGHTS = "adapter_model.safetensors"


class Watched:
    """A local source with a clock of its own, which counts how often a folder is read."""

    def __init__(self, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.repository = repository
        self.now = repository.stat().st_mtime
        self.reads: list[str] = []
        self.seen: Resolution | None = None
        self._source = LocalSource(settle_seconds=2.0, clock=lambda: self.now)
        real = local_module.inspect

        def counted(folder: Path, **options: object) -> object:
            self.reads.append(folder.name)
            return real(folder, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(local_module, "inspect", counted)

    async def look(self, after: float = 0.0, **changes: object) -> Resolution:
        """Ask the source `after` seconds later."""
        self.now += after
        asked = {"base": BASE} | changes
        request = SourceRequest("local", str(self.repository), **asked)  # type: ignore[arg-type]
        self.seen = await self._source.resolve(request, self.seen)
        return self.seen

    async def look_quietly(self) -> Resolution:
        """Look until nothing is pending, as it is when a source has been left alone for a while."""
        await self.look()
        self.now = max(self.now, newest(self.repository)) + 10
        found = await self.look()
        assert found.recheck_after_seconds is None
        self.reads.clear()
        return found


def newest(folder: Path) -> float:
    return max(path.stat().st_ctime for path in folder.rglob("*"))


def only(resolution: Resolution) -> FoundAdapter:
    (found,) = resolution.adapters
    return found


def written_now(folder: Path, now: float) -> None:
    """Give the files the write time that the test's clock shows."""
    for path in folder.iterdir():
        os.utime(path, (now, now))


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    write_adapter(tmp_path / "store" / "a")
    yield Watched(tmp_path / "store", monkeypatch)


async def test_takes_a_first_sighting_at_once_and_looks_again_when_it_is_quiet(watched: Watched) -> None:
    first = await watched.look()
    assert only(first).name == "a"
    assert first.recheck_after_seconds is not None
    assert 0 < first.recheck_after_seconds < 4
    await watched.look(after=1)
    assert watched.reads == ["a"]
    await watched.look(after=10)
    assert watched.reads == ["a", "a"]
    await watched.look(after=1000)
    assert watched.reads == ["a", "a"]


async def test_reads_nothing_again_while_nothing_changed(watched: Watched) -> None:
    write_adapter(watched.repository / "broken", weights=b"")
    before = await watched.look_quietly()
    for _ in range(3):
        assert await watched.look(after=5) == before
    assert watched.reads == []


async def test_reads_only_what_changed(watched: Watched) -> None:
    write_adapter(watched.repository / "b", seed=1)
    before = await watched.look_quietly()
    write_adapter(watched.repository / "b", seed=2)
    after = await watched.look(after=100)
    assert watched.reads == ["b"]
    assert after.adapters[0] is before.adapters[0]
    assert after.adapters[1].fingerprint != before.adapters[1].fingerprint


async def test_a_touch_is_no_new_version(watched: Watched) -> None:
    before = await watched.look_quietly()
    os.utime(watched.repository / "a" / WEIGHTS, (1, 1))
    assert await watched.look(after=100) == before
    assert watched.reads == ["a"]


async def test_an_update_waits_until_it_is_settled(watched: Watched) -> None:
    before = only(await watched.look_quietly())
    write_adapter(watched.repository / "a", seed=7)
    written_now(watched.repository / "a", watched.now)
    young = await watched.look(after=1)
    assert only(young) == before
    assert young.recheck_after_seconds == pytest.approx(1.0)
    assert watched.reads == []
    settled = await watched.look(after=1.5)
    assert only(settled).fingerprint != before.fingerprint
    assert settled.stale == ()


async def test_a_write_in_between_starts_the_wait_anew(watched: Watched) -> None:
    before = only(await watched.look_quietly())
    write_adapter(watched.repository / "a", seed=7)
    for _ in range(4):
        written_now(watched.repository / "a", watched.now)
        assert only(await watched.look(after=1.5)) == before
    assert watched.reads == []


async def test_a_half_written_update_never_replaces_a_good_version(watched: Watched) -> None:
    before = only(await watched.look_quietly())
    whole = write_adapter(watched.repository.parent / "new", seed=7) / WEIGHTS
    (watched.repository / "a" / WEIGHTS).write_bytes(whole.read_bytes()[:700])
    torn = await watched.look(after=100)
    assert only(torn) == before
    assert torn.broken == ()
    assert [(item.name, item.reason) for item in torn.stale] == [("a", "FileTruncated")]
    # the broken update is not read again and again, and is reported for as long as it is there
    assert await watched.look(after=100) == torn
    assert await watched.look(after=100) == torn
    assert watched.reads == ["a"]
    shutil.copy(whole, watched.repository / "a" / WEIGHTS)
    done = await watched.look(after=100)
    assert only(done).fingerprint != before.fingerprint
    assert done.stale == ()


async def test_going_back_to_the_old_files_ends_the_complaint(watched: Watched) -> None:
    before = only(await watched.look_quietly())
    weights = watched.repository / "a" / WEIGHTS
    weights.rename(watched.repository / "kept")
    weights.write_bytes(b"torn")
    assert (await watched.look(after=100)).stale != ()
    (watched.repository / "kept").rename(weights)
    back = await watched.look(after=100)
    assert back.stale == ()
    assert only(back) == before


@pytest.mark.parametrize("name", [WEIGHTS, "adapter_config.json"])
async def test_a_version_that_lost_a_file_is_kept_and_reported(watched: Watched, name: str) -> None:
    before = only(await watched.look_quietly())
    (watched.repository / "a" / name).unlink()
    found = await watched.look(after=100)
    assert only(found) == before
    assert [item.reason for item in found.stale] == ["WeightsMissing" if name == WEIGHTS else "ConfigMissing"]


async def test_a_folder_that_is_swapped_by_moves_is_never_missed(watched: Watched) -> None:
    before = only(await watched.look_quietly())
    write_adapter(watched.repository.parent / "new", seed=7)
    watched.now = 0.1 + newest(watched.repository)
    (watched.repository / "a").rename(watched.repository.parent / "old")
    os.utime(watched.repository, (watched.now, watched.now))
    between = await watched.look(after=0.5, adapters=("a",))
    assert only(between) == before
    assert between.broken == ()
    assert between.recheck_after_seconds == pytest.approx(1.5)
    (watched.repository.parent / "new").rename(watched.repository / "a")
    after = await watched.look(after=100, adapters=("a",))
    assert only(after).fingerprint != before.fingerprint


async def test_a_folder_that_stays_away_is_gone(watched: Watched) -> None:
    await watched.look_quietly()
    shutil.rmtree(watched.repository / "a")
    gone = await watched.look(after=100, adapters=("a",))
    assert gone.adapters == ()
    assert [(item.name, item.reason) for item in gone.broken] == [("a", "NotFound")]
    assert await watched.look(after=1) == Resolution()


async def test_a_folder_that_was_emptied_is_gone_when_it_is_quiet(watched: Watched) -> None:
    before = only(await watched.look_quietly())
    for path in (watched.repository / "a").iterdir():
        path.unlink()
    os.utime(watched.repository / "a", (watched.now, watched.now))
    assert only(await watched.look(after=1)) == before
    assert (await watched.look(after=2)).adapters == ()


async def test_a_broken_first_sighting_is_taken_as_soon_as_it_is_whole(watched: Watched) -> None:
    whole = (watched.repository / "a" / WEIGHTS).read_bytes()
    (watched.repository / "a" / WEIGHTS).write_bytes(whole[:900])
    assert [item.reason for item in (await watched.look()).broken] == ["FileTruncated"]
    (watched.repository / "a" / WEIGHTS).write_bytes(whole)
    found = await watched.look(after=0.01)
    assert only(found).name == "a"
    assert found.broken == ()


async def test_another_base_model_is_checked_anew(watched: Watched) -> None:
    await watched.look_quietly()
    found = await watched.look(base_model="org/another-model", base=None)
    assert watched.reads == ["a"]
    assert only(found).name == "a"
    assert [item.reason for item in found.stale] == ["BaseModelMismatch"]
    found = await watched.look(base_model="org/another-model", base=None, compares_names=False)
    assert watched.reads == ["a", "a"]
    assert found.stale == ()


async def test_files_from_the_future_do_not_hold_updates_up(watched: Watched) -> None:
    before = only(await watched.look_quietly())
    write_adapter(watched.repository / "a", seed=7)
    written_now(watched.repository / "a", watched.now + 3600)
    assert only(await watched.look()).fingerprint != before.fingerprint
