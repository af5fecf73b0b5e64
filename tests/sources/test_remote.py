"""What all remote stores share, with a store in memory: what is read, what is kept, what is refused."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from lora_operator.artifacts import AdapterRefused, RefusedReason
from lora_operator.sources import Resolution, SourceError, SourceRequest
from lora_operator.sources.remote import RemoteFile, RemoteFolder, noted_file, resolve_folders
from tests.artifacts.written_adapter import BASE, with_header, write_adapter

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


class MemoryStore:
    """Folders of bytes. `reads` are (folder, file, begin, end); `fails` raises for some folders."""

    def __init__(self) -> None:
        self.folders: dict[str, dict[str, bytes]] = {}
        self.written_at: dict[str, float] = {}
        self.reads: list[tuple[str, str, int, int]] = []
        self.fails: dict[str, Exception] = {}

    def put(self, name: str, files: Mapping[str, bytes], at: float = 0.0) -> None:
        self.folders.setdefault(name, {}).update(files)
        self.written_at[name] = at

    def listed(self) -> list[RemoteFolder]:
        return [
            RemoteFolder(
                name,
                f"mem://{name}",
                tuple(
                    RemoteFile(path, len(data), hashlib.md5(data).hexdigest(), modified_at=self.written_at[name])
                    for path, data in files.items()
                ),
                f"mem://{name}",
            )
            for name, files in self.folders.items()
        ]

    async def describe(self, location: str, file: RemoteFile) -> RemoteFile:
        return replace(file, version=f"v-{file.tag[:4]}")

    async def read(self, location: str, file: RemoteFile, begin: int, end: int) -> bytes:
        name = location.removeprefix("mem://")
        if name in self.fails:
            raise self.fails[name]
        self.reads.append((name, file.path, begin, end))
        return self.folders[name][file.path][begin:end]


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def files_of(tmp_path: Path, **changes: object) -> dict[str, bytes]:
    folder = write_adapter(tmp_path / "made", **changes)  # type: ignore[arg-type]
    return {path.name: path.read_bytes() for path in folder.iterdir()}


async def resolved(
    store: MemoryStore, previous: Resolution | None = None, *, now: float = 1000.0, **changes: object
) -> Resolution:
    request = SourceRequest("mem", "mem", **{"base_model": "tiny-base", "base": BASE} | changes)  # type: ignore[arg-type]
    return await resolve_folders(store.listed(), store, request, previous, now=now, settle_seconds=5.0)


async def test_reads_only_the_config_and_the_header(store: MemoryStore, tmp_path: Path) -> None:
    files = files_of(tmp_path)
    store.put("one", files | {"README.md": b"x" * 100_000})
    (found,) = (await resolved(store)).adapters
    assert [(path, begin) for _, path, begin, _ in store.reads] == [(CONFIG, 0), (WEIGHTS, 0)]
    assert found.inspection.rank == 4
    config, weights = found.files
    assert config.sha256 == hashlib.sha256(files[CONFIG]).hexdigest()
    assert (weights.sha256, weights.tag) == ("", hashlib.md5(files[WEIGHTS]).hexdigest())
    assert noted_file(found, WEIGHTS).version == f"v-{weights.tag[:4]}"


async def test_reads_the_rest_of_a_long_header_and_no_byte_twice(store: MemoryStore, tmp_path: Path) -> None:
    files = files_of(tmp_path)
    length = int.from_bytes(files[WEIGHTS][:8], "little")
    header, body = files[WEIGHTS][8 : 8 + length], files[WEIGHTS][8 + length :]
    files[WEIGHTS] = with_header(header + b" " * 100_000, body)
    store.put("one", files)
    assert len((await resolved(store)).adapters) == 1
    (_, _, begin, end), (_, _, begin_2, end_2) = store.reads[1:]
    assert (begin, end) == (0, 65536)
    assert (begin_2, end_2) == (65536, len(files[WEIGHTS]) - len(body))


async def test_reads_nothing_where_nothing_changed(store: MemoryStore, tmp_path: Path) -> None:
    store.put("good", files_of(tmp_path))
    store.put("bad", files_of(tmp_path, peft_type="IA3"))
    store.put("half", {CONFIG: b"{}"})
    first = await resolved(store)
    assert {item.name: item.reason for item in first.broken} == {"bad": "PeftTypeUnsupported", "half": "WeightsMissing"}
    store.reads.clear()
    assert await resolved(store, first) == first
    assert store.reads == []


async def test_keeps_the_old_version_while_the_new_one_is_young_incomplete_or_broken(
    store: MemoryStore, tmp_path: Path
) -> None:
    store.put("one", files_of(tmp_path))
    first = await resolved(store)
    store.put("one", files_of(tmp_path, seed=1), at=1000.0)
    young = await resolved(store, first, now=1001.0)
    assert young.adapters == first.adapters and young.recheck_after_seconds == 4.0
    new = files_of(tmp_path, peft_type="IA3")
    store.put("one", new)
    broken = await resolved(store, young)
    assert broken.adapters == first.adapters
    assert [item.reason for item in broken.stale] == ["PeftTypeUnsupported"]
    del store.folders["one"][WEIGHTS]
    half = await resolved(store, broken)
    assert half.adapters == first.adapters
    assert [item.reason for item in half.stale] == ["WeightsMissing"]
    store.put("one", files_of(tmp_path, seed=1))
    healed = await resolved(store, half)
    assert healed.stale == () and healed.adapters[0].fingerprint != first.adapters[0].fingerprint


async def test_an_adapter_that_is_not_listed_goes_only_after_a_moment(store: MemoryStore, tmp_path: Path) -> None:
    store.put("one", files_of(tmp_path))
    first = await resolved(store)
    kept_files = store.folders.pop("one")
    gone = await resolved(store, first, now=1000.0)
    assert gone.adapters == first.adapters and gone.recheck_after_seconds == 5.0
    store.folders["one"] = kept_files
    back = await resolved(store, gone, now=1003.0)
    assert back == first and back.recheck_after_seconds is None
    del store.folders["one"]
    gone = await resolved(store, back, now=1006.0)
    assert gone.adapters == first.adapters
    assert (await resolved(store, gone, now=1011.5)).adapters == ()
    listed = await resolved(store, gone, now=1011.5, adapters=("one",))
    assert [item.reason for item in listed.broken] == ["NotFound"]


async def test_a_store_that_fails_for_one_adapter_does_not_hide_the_others(store: MemoryStore, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        store.put(name, files_of(tmp_path))
    store.fails["a"] = SourceError("Throttled", "too many requests", retryable=True, retry_after_seconds=7.0)
    store.fails["b"] = AdapterRefused(RefusedReason.FILE_CHANGED, "it changed")
    half = await resolved(store)
    assert [found.name for found in half.adapters] == ["c"]
    assert {item.name: item.reason for item in half.broken} == {"a": "Throttled", "b": "FileChanged"}
    assert half.recheck_after_seconds == 7.0
    store.fails.clear()
    assert len((await resolved(store, half)).adapters) == 3


async def test_a_store_that_fails_for_all_fails_as_a_whole(store: MemoryStore, tmp_path: Path) -> None:
    for name in ("a", "b"):
        store.put(name, files_of(tmp_path))
        store.fails[name] = SourceError("Throttled", "too many requests", retryable=True)
    with pytest.raises(SourceError) as caught:
        await resolved(store)
    assert caught.value.reason == "Throttled"


async def test_selects_and_counts_before_anything_is_read(store: MemoryStore, tmp_path: Path) -> None:
    for name in ("lora-a", "lora-b", "other"):
        store.put(name, files_of(tmp_path))
    store.put("lora-notes", {"README.md": b"no adapter"})
    assert [found.name for found in (await resolved(store, prefix="lora-", max_adapters=2)).adapters] == [
        "lora-a",
        "lora-b",
    ]
    store.reads.clear()
    with pytest.raises(SourceError) as caught:
        await resolved(store, max_adapters=2)
    assert caught.value.reason == "TooManyAdapters" and not caught.value.retryable
    assert store.reads == []


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({CONFIG: b"{}", "adapter_model.bin": b"pickle"}, "PickleRefused"),
        ({WEIGHTS: b"x"}, "ConfigMissing"),
        ({CONFIG: b"", WEIGHTS: with_header({}, b"")}, "ConfigInvalid"),
        ({CONFIG: b"", WEIGHTS: b""}, "FileTruncated"),
        ({CONFIG: b"{}", WEIGHTS: b"\xff" * 100}, "HeaderInvalid"),
        ({CONFIG: b"{}", WEIGHTS: b"\0\0\1" + b"\0" * 97}, "FileTruncated"),
        ({CONFIG: b" " * (5 << 20), WEIGHTS: with_header({}, b"")}, "ConfigTooLarge"),
    ],
)
async def test_refuses_what_is_no_adapter(store: MemoryStore, files: dict[str, bytes], reason: str) -> None:
    store.put("one", files)
    assert [item.reason for item in (await resolved(store)).broken] == [reason]


@pytest.mark.parametrize("name", ["..", "a b", "x" * 200, "tiny-base", "-x"])
async def test_refuses_names_that_no_adapter_may_have(store: MemoryStore, tmp_path: Path, name: str) -> None:
    store.put(name, files_of(tmp_path))
    assert [item.reason for item in (await resolved(store)).broken] == ["InvalidName"]
    assert store.reads == []
    called = await resolved(store, served_name="{slug}-x")
    assert bool(called.adapters) is (name in ("a b", "tiny-base", "-x"))
