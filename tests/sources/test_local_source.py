"""Adapters in local folders: what is found, what is broken, and what the source itself refuses."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lora_operator.sources import LocalSource, Resolution, SourceError, SourceRequest, sources_by_type
from tests.artifacts.written_adapter import BASE, write_adapter


def a_request(repository: Path | str, **changes: object) -> SourceRequest:
    return SourceRequest("local", str(repository), **{"base_model": "tiny-base", "base": BASE} | changes)  # type: ignore[arg-type]


async def resolved(repository: Path | str, **changes: object) -> Resolution:
    return await LocalSource().resolve(a_request(repository, **changes), None)


def names(resolution: Resolution) -> list[str]:
    return [found.name for found in resolution.adapters]


def reasons(resolution: Resolution) -> dict[str, str]:
    return {item.name: item.reason for item in resolution.broken}


async def failure(repository: Path | str, source: LocalSource | None = None, **changes: object) -> SourceError:
    with pytest.raises(SourceError) as caught:
        await (source or LocalSource()).resolve(a_request(repository, **changes), None)
    return caught.value


async def test_finds_one_adapter_at_the_root_named_after_the_folder(tmp_path: Path) -> None:
    write_adapter(tmp_path / "alpaca")
    write_adapter(tmp_path / "alpaca" / "checkpoint-500")
    (found,) = (await resolved(tmp_path / "alpaca")).adapters
    assert found.name == "alpaca"
    assert found.location == str(tmp_path / "alpaca")
    assert found.inspection.rank == 4
    assert found.files == found.inspection.files
    assert len(found.fingerprint) == 16


async def test_finds_one_below_a_finished_adapter_that_is_asked_for(tmp_path: Path) -> None:
    write_adapter(tmp_path / "alpaca")
    write_adapter(tmp_path / "alpaca" / "checkpoint-500")
    write_adapter(tmp_path / "alpaca" / "checkpoint-1000")
    assert names(await resolved(tmp_path / "alpaca", adapters=("checkpoint-500",))) == ["checkpoint-500"]
    both = await resolved(tmp_path / "alpaca", adapters=("checkpoint-500", "alpaca", "ghost"))
    assert (names(both), reasons(both)) == (["alpaca", "checkpoint-500"], {"ghost": "NotFound"})


def cached(hub: Path, repository: str, commit: str, *, main: bool = True) -> Path:
    """As the hub's client keeps a repository: files are links to blobs."""
    folder = hub / f"models--{repository.replace('/', '--')}"
    snapshot, blobs = folder / "snapshots" / commit, folder / "blobs"
    write_adapter(snapshot, seed=len(commit))
    blobs.mkdir(exist_ok=True)
    for file in list(snapshot.iterdir()):
        blob = blobs / f"{commit}-{file.name}"
        file.rename(blob)
        file.symlink_to(Path("..") / ".." / "blobs" / blob.name)
    (folder / "refs").mkdir(exist_ok=True)
    if main:
        (folder / "refs" / "main").write_text(commit)
    return folder


async def test_reads_the_cache_of_the_hub_as_its_repositories(tmp_path: Path) -> None:
    old, new = "0" * 40, "1" * 40
    folder = cached(tmp_path, "org/sql-lora", old)
    cached(tmp_path, "org/sql-lora", new)
    cached(tmp_path, "plain", old, main=False)
    write_adapter(tmp_path / "beside")
    found = await resolved(tmp_path)
    assert (names(found), reasons(found)) == (["beside", "plain", "sql-lora"], {})
    assert found.adapters[2].location == str(folder / "snapshots" / new)
    for place in (folder, folder / "snapshots" / old):
        assert names(await resolved(place)) == ["sql-lora"]


async def test_a_link_out_of_the_cache_of_the_hub_is_refused(tmp_path: Path) -> None:
    folder = cached(tmp_path / "hub", "org/sql-lora", "0" * 40)
    weights = folder / "blobs" / f"{'0' * 40}-adapter_model.safetensors"
    weights.rename(tmp_path / "elsewhere")
    weights.symlink_to(tmp_path / "elsewhere")
    assert reasons(await resolved(tmp_path / "hub")) == {"sql-lora": "LinkEscapes"}
    moved = tmp_path / "blobs"
    (folder / "blobs").rename(moved)
    (folder / "blobs").symlink_to(moved)
    assert reasons(await resolved(tmp_path / "hub")) == {"sql-lora": "LinkEscapes"}


async def test_finds_one_adapter_per_sub_folder_sorted_and_ignores_the_rest(tmp_path: Path) -> None:
    for name in ("c", "a", "b"):
        write_adapter(tmp_path / name)
    write_adapter(tmp_path / ".hidden")
    write_adapter(tmp_path / "deep" / "deeper")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("")
    assert await resolved(tmp_path) == Resolution(adapters=(await resolved(tmp_path)).adapters)
    assert names(await resolved(tmp_path)) == ["a", "b", "c"]


async def test_broken_adapters_do_not_hide_the_good_ones(tmp_path: Path) -> None:
    write_adapter(tmp_path / "good")
    write_adapter(tmp_path / "torn", weights=b"\0\0")
    write_adapter(tmp_path / "dora", use_dora=True)
    write_adapter(tmp_path / "has,comma")
    write_adapter(tmp_path / "tiny-base")
    write_adapter(tmp_path / "m--0123456789abcdef")
    (write_adapter(tmp_path / "no-config") / "adapter_config.json").unlink()
    found = await resolved(tmp_path)
    assert names(found) == ["good"]
    assert reasons(found) == {
        "torn": "FileTruncated",
        "dora": "DoraUnsupported",
        "has,comma": "InvalidName",
        "tiny-base": "InvalidName",
        "m--0123456789abcdef": "InvalidName",
        "no-config": "ConfigMissing",
    }
    assert [item.name for item in found.broken] == sorted(item.name for item in found.broken)


async def test_a_name_that_no_adapter_may_have_is_one_for_a_resource_that_calls_it_otherwise(tmp_path: Path) -> None:
    for name in ("two words", "_a:b@1", "tiny-base"):
        write_adapter(tmp_path / name)
    found = await resolved(tmp_path, served_name="team-{slug}")
    assert (names(found), reasons(found)) == (["_a:b@1", "tiny-base", "two words"], {})
    assert reasons(await resolved(tmp_path, served_name="{name}"))["two words"] == "InvalidName"


async def test_reads_only_what_is_selected_and_reports_listed_names_that_are_absent(tmp_path: Path) -> None:
    for name in ("lora-a", "lora-b", "other"):
        write_adapter(tmp_path / name)
    write_adapter(tmp_path / "broken", weights=b"")
    assert names(await resolved(tmp_path, prefix="lora-")) == ["lora-a", "lora-b"]
    assert names(await resolved(tmp_path, pattern="*-b")) == ["lora-b"]
    found = await resolved(tmp_path, adapters=("other", "ghost"))
    assert names(found) == ["other"]
    assert reasons(found) == {"ghost": "NotFound"}


async def test_an_empty_folder_is_an_empty_answer(tmp_path: Path) -> None:
    assert await resolved(tmp_path) == Resolution()


async def test_refuses_more_than_max_adapters(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_adapter(tmp_path / name)
    error = await failure(tmp_path, max_adapters=2)
    assert (error.reason, error.retryable) == ("TooManyAdapters", False)
    assert "3 adapters" in str(error)
    assert names(await resolved(tmp_path, max_adapters=2, pattern="[ab]")) == ["a", "b"]


@pytest.mark.parametrize("path", ["", "relative/path", "./x", "/a/../b", "/a\0b", "~/x", "s3://bucket"])
async def test_refuses_paths_that_are_not_absolute(path: str) -> None:
    error = await failure(path)
    assert (error.reason, error.retryable) == ("PathNotAbsolute", False)


async def test_says_that_the_folder_is_absent_or_none(tmp_path: Path) -> None:
    error = await failure(tmp_path / "nowhere")
    assert (error.reason, error.retryable) == ("FolderNotFound", True)
    assert "nowhere" in str(error)
    (tmp_path / "file").write_text("")
    assert (await failure(tmp_path / "file")).reason == "NotAFolder"
    assert (await failure(tmp_path / "file" / "below")).reason == "NotAFolder"
    (tmp_path / "loop").symlink_to("loop")
    assert (await failure(tmp_path / "loop")).reason == "FolderNotReadable"


@pytest.fixture
def public_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


async def test_says_that_the_folder_is_not_readable(public_folder: Path) -> None:
    write_adapter(public_folder / "closed" / "a")
    (public_folder / "closed").chmod(0o000)
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)  # root may read everything
    try:
        error = await failure(public_folder / "closed")
    finally:
        os.seteuid(before)
        (public_folder / "closed").chmod(0o755)
    assert (error.reason, error.retryable) == ("FolderNotReadable", True)


async def test_reads_only_below_the_allowed_roots(tmp_path: Path) -> None:
    for name in ("allowed", "allowed-not", "other"):
        write_adapter(tmp_path / name / "a")
    (tmp_path / "allowed" / "link").symlink_to(tmp_path / "other")
    source = LocalSource((tmp_path / "allowed",))
    assert names(await source.resolve(a_request(tmp_path / "allowed"), None)) == ["a"]
    for outside in ("allowed-not", "other", "allowed/link"):
        error = await failure(tmp_path / outside, source)
        assert (error.reason, error.retryable) == ("OutsideAllowedRoots", False)


async def test_never_reads_the_volume_where_the_adapters_of_all_tenants_are(tmp_path: Path) -> None:
    write_adapter(tmp_path / "volume" / "theirs" / ("0" * 16))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "whole").symlink_to(tmp_path / "volume" / "theirs")
    (tmp_path / "mine" / "one").symlink_to(tmp_path / "volume" / "theirs" / ("0" * 16))
    for roots in ((), (tmp_path,)):
        source = LocalSource(roots, closed=(tmp_path / "volume",))
        for inside in ("volume", "volume/theirs", f"volume/theirs/{'0' * 16}", "mine/whole"):
            error = await failure(tmp_path / inside, source)
            assert (error.reason, error.retryable) == ("InsideAdapterVolume", False)
        found = await source.resolve(a_request(tmp_path / "mine"), None)
        assert (names(found), len(found.broken)) == ([], 1)


async def test_refuses_sub_folders_that_are_links_to_elsewhere(tmp_path: Path) -> None:
    write_adapter(tmp_path / "secret" / "a")
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "escaping").symlink_to(tmp_path / "secret" / "a")
    write_adapter(tmp_path / "store" / ".versions" / "2")
    (tmp_path / "store" / "inside").symlink_to(".versions/2")
    found = await resolved(tmp_path / "store")
    assert names(found) == ["inside"]
    assert found.adapters[0].location == str(tmp_path / "store" / ".versions" / "2")
    assert reasons(found) == {"escaping": "LinkEscapes"}
    # with roots, whatever is below them may be linked to: it may be named, too
    rooted = await LocalSource((tmp_path,)).resolve(a_request(tmp_path / "store"), None)
    assert names(rooted) == ["escaping", "inside"]


async def test_the_registry_knows_every_type_of_the_api(tmp_path: Path) -> None:
    write_adapter(tmp_path / "a")
    sources = sources_by_type((tmp_path,))
    assert set(sources) == {"local", "huggingface", "s3", "azure", "http"}
    assert names(await sources["local"].resolve(a_request(tmp_path), None)) == ["a"]


async def test_a_look_follows_the_links_of_each_folder_once_however_many_adapters_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        write_adapter(tmp_path / "mine" / f"a{number}")
    write_adapter(tmp_path / "one")
    followed: list[str] = []
    real = os.path.realpath

    def noted(path: str, **options: bool) -> str:
        followed.append(str(path))
        return real(path, **options)

    monkeypatch.setattr(os.path, "realpath", noted)
    source = LocalSource((tmp_path,), closed=(tmp_path / "volume",), settle_seconds=0.0)
    for folder, count in (("mine", 5), ("one", 1)):
        before = await source.resolve(a_request(tmp_path / folder), None)
        followed.clear()
        assert len(names(await source.resolve(a_request(tmp_path / folder), before))) == count
        assert len(followed) == len(set(followed)) <= 8
