"""Adapters in repositories of a Hugging Face hub, through its official client, over HTTP."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from e2e.stores.hub import LocalHub, Repository
from lora_operator.fetch.manifest import FetchManifest
from lora_operator.sources import Credentials, FoundAdapter, Resolution, SourceError
from lora_operator.sources.huggingface import HuggingFaceSource
from tests.sources.adapter_bytes import CONFIG, WEIGHTS, a_request, adapter

TOKEN = "hf_aTokenThatNobodyMaySee"
OWN = Credentials((("token", TOKEN),))


@pytest.fixture
async def hub() -> AsyncIterator[LocalHub]:
    async with LocalHub(tokens=frozenset({TOKEN})) as hub:
        yield hub


def put(hub: LocalHub, name: str, files: dict[str, bytes], **settings: Any) -> Repository:
    repository = hub.repositories.setdefault(name, Repository(name, **settings))
    repository.commit(files)
    return repository


async def resolved(hub: LocalHub, repository: str, previous: Resolution | None = None, **changes: Any) -> Resolution:
    source = HuggingFaceSource(endpoint=hub.url)
    return await source.resolve(a_request("huggingface", repository, **changes), previous)


async def refused(hub: LocalHub, repository: str, **changes: Any) -> SourceError:
    with pytest.raises(SourceError) as caught:
        await resolved(hub, repository, **changes)
    return caught.value


async def located(hub: LocalHub, found: FoundAdapter, repository: str, **changes: Any) -> FetchManifest:
    return await HuggingFaceSource(endpoint=hub.url).locate(a_request("huggingface", repository, **changes), found)


async def test_finds_the_one_adapter_at_the_root(hub: LocalHub) -> None:
    files = adapter() | {"README.md": b"# hi", "checkpoint-10/adapter_config.json": b"{}"}
    put(hub, "org/my-lora", files)
    (found,) = (await resolved(hub, "org/my-lora")).adapters
    assert (found.name, found.inspection.rank) == ("my-lora", 4)
    config, weights = found.files
    assert weights.sha256 == hashlib.sha256(files[WEIGHTS]).hexdigest()
    assert config.sha256 == hashlib.sha256(files[CONFIG]).hexdigest()


async def test_a_hub_may_call_its_commits_by_sha256(hub: LocalHub) -> None:
    put(hub, "org/my-lora", adapter(), commit_hash="sha256")
    (found,) = (await resolved(hub, "org/my-lora")).adapters
    assert found.name == "my-lora"
    assert (await located(hub, found, "org/my-lora")).files[1].link is not None


async def test_reads_no_more_of_the_weights_than_the_beginning(hub: LocalHub) -> None:
    files = adapter(rank=64)
    put(hub, "org/my-lora", files | {"README.md": b"unread"})
    assert (await resolved(hub, "org/my-lora")).adapters
    assert [seen.range for seen in hub.seen if seen.host == "files"] == [
        f"bytes=0-{min(len(files[WEIGHTS]), 65536) - 1}"
    ]
    assert not [seen for seen in hub.seen if "README" in seen.path]


async def test_finds_one_adapter_per_folder_at_any_depth(hub: LocalHub) -> None:
    hub.page_entries = 3
    put(hub, "org/many", adapter("a") | adapter("deep/er/b", seed=1) | {"c/readme.txt": b""})
    resolution = await resolved(hub, "org/many")
    assert [found.name for found in resolution.adapters] == ["a", "b"]
    assert resolution.broken == ()
    assert {seen.query.get("cursor") for seen in hub.seen if "/tree/" in seen.path} == {None, "3", "6"}


async def test_refuses_two_folders_of_one_name_and_takes_the_others(hub: LocalHub) -> None:
    put(hub, "org/many", adapter("x/a") | adapter("y/a") | adapter("b"))
    resolution = await resolved(hub, "org/many")
    assert [found.name for found in resolution.adapters] == ["b"]
    assert [(item.name, item.reason) for item in resolution.broken] == [("a", "DuplicateName")]
    assert "org/many/x/a" in resolution.broken[0].message


async def test_takes_the_repositories_of_an_organisation_that_are_for_the_base_model(hub: LocalHub) -> None:
    fitting = ("peft", "base_model:adapter:org/tiny-base")
    put(hub, "team/one", adapter(), tags=fitting)
    put(hub, "team/two", adapter(seed=2), tags=("peft", "base_model:adapter:other/tiny-base-bnb-4bit"))
    put(hub, "team/other-base", adapter(), tags=("peft", "base_model:adapter:org/huge"))
    put(hub, "team/no-adapter", {"config.json": b"{}"}, tags=("base_model:finetune:org/tiny-base",))
    put(hub, "team/not-of-peft", adapter(), tags=("diffusers", "base_model:adapter:org/tiny-base"))
    put(hub, "others/one", adapter(), tags=fitting)
    resolution = await resolved(hub, "team")
    assert [found.name for found in resolution.adapters] == ["one", "two"]


async def test_refuses_an_organisation_with_more_adapters_than_allowed_before_reading_any(hub: LocalHub) -> None:
    for number in range(4):
        put(hub, f"team/n{number}", adapter(), tags=("peft", "base_model:adapter:org/tiny-base"))
    assert (await refused(hub, "team", max_adapters=3)).reason == "TooManyAdapters"
    assert [seen.path for seen in hub.seen] == ["/api/models"]


async def test_asks_once_while_the_commit_stays_the_same(hub: LocalHub) -> None:
    put(hub, "org/my-lora", adapter())
    first = await resolved(hub, "org/my-lora")
    hub.seen.clear()
    assert await resolved(hub, "org/my-lora", first) is first
    assert [(seen.method, seen.path) for seen in hub.seen] == [("GET", "/api/models/org/my-lora")]


async def test_reads_only_what_a_commit_changed(hub: LocalHub) -> None:
    put(hub, "org/many", adapter("a") | adapter("b"))
    first = await resolved(hub, "org/many")
    put(hub, "org/many", adapter("a") | adapter("b", seed=9) | {"README.md": b"new"})
    hub.seen.clear()
    second = await resolved(hub, "org/many", first)
    assert second.adapters[0] is first.adapters[0]
    assert second.adapters[1].fingerprint != first.adapters[1].fingerprint
    assert not [seen for seen in hub.seen if "/a/" in seen.path]


async def test_keeps_the_good_version_while_its_successor_is_broken(hub: LocalHub) -> None:
    put(hub, "org/my-lora", adapter())
    first = await resolved(hub, "org/my-lora")
    put(hub, "org/my-lora", adapter(peft_type="IA3"))
    second = await resolved(hub, "org/my-lora", first)
    assert second.adapters == first.adapters
    assert [item.reason for item in second.stale] == ["PeftTypeUnsupported"]


async def test_takes_the_revision_that_is_asked_for(hub: LocalHub) -> None:
    repository = put(hub, "org/my-lora", adapter())
    old = repository.branches["main"]
    repository.commit(adapter(seed=5))
    now, then = await resolved(hub, "org/my-lora"), await resolved(hub, "org/my-lora", revision=old)
    assert now.adapters[0].fingerprint != then.adapters[0].fingerprint
    assert (await refused(hub, "org/my-lora", revision="gone")).reason == "RevisionNotFound"


async def test_shows_the_token_to_the_hub_and_to_nobody_else(hub: LocalHub) -> None:
    put(hub, "org/secret", adapter(), readers=frozenset({TOKEN}))
    (found,) = (await resolved(hub, "org/secret", credentials=OWN)).adapters
    order = await located(hub, found, "org/secret", credentials=OWN)
    assert {seen.token for seen in hub.seen if seen.host == "api"} == {TOKEN}
    assert {seen.token for seen in hub.seen if seen.host == "files"} == {None}
    assert TOKEN not in repr(order)
    link = order.files[1].link
    assert link is not None
    assert dict(link.headers) == {}


async def test_sends_no_token_of_the_surroundings(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    put(hub, "org/my-lora", adapter())
    await resolved(hub, "org/my-lora")
    assert {seen.token for seen in hub.seen} == {None}


@pytest.mark.parametrize(
    ("credentials", "reason"),
    [
        (None, "AuthenticationRequired"),
        (Credentials((("token", "hf_wrong"),)), "AuthenticationFailed"),
        (OWN, "RepositoryNotFound"),
    ],
)
async def test_says_why_a_private_or_missing_repository_cannot_be_read(
    hub: LocalHub, credentials: Credentials | None, reason: str
) -> None:
    put(hub, "org/secret", adapter(), readers=frozenset({"of somebody else"}))
    for repository in ("org/secret", "org/missing"):
        error = await refused(hub, repository, credentials=credentials)
        assert (error.reason, error.retryable) == (reason, False)


@pytest.mark.parametrize("credentials", [None, OWN])
async def test_says_that_a_repository_is_gated_until_access_is_given(
    hub: LocalHub, credentials: Credentials | None
) -> None:
    repository = put(hub, "org/gated", adapter(), gated=True)
    error = await refused(hub, "org/gated", credentials=credentials)
    assert (error.reason, error.retryable) == ("GatedRepository", False)
    repository.accepted = frozenset({TOKEN})
    assert (await resolved(hub, "org/gated", credentials=OWN)).adapters


async def test_one_gated_repository_hides_no_other_and_is_asked_again(hub: LocalHub) -> None:
    tags = ("peft", "base_model:adapter:org/tiny-base")
    gated = put(hub, "team/gated", adapter(seed=1), gated=True, tags=tags)
    put(hub, "team/open", adapter(), tags=tags)
    first = await resolved(hub, "team", credentials=OWN)
    assert [found.name for found in first.adapters] == ["open"]
    assert [(item.name, item.reason) for item in first.broken] == [("gated", "GatedRepository")]
    gated.accepted = frozenset({TOKEN})
    second = await resolved(hub, "team", first, credentials=OWN)
    assert [found.name for found in second.adapters] == ["gated", "open"]


async def test_says_that_a_repository_was_disabled(hub: LocalHub) -> None:
    put(hub, "org/off", adapter(), disabled=True)
    assert (await refused(hub, "org/off")).reason == "RepositoryDisabled"


async def test_orders_the_config_inline_and_the_weights_by_a_signed_link(hub: LocalHub) -> None:
    files = adapter()
    put(hub, "org/my-lora", files)
    (found,) = (await resolved(hub, "org/my-lora")).adapters
    order = await located(hub, found, "org/my-lora")
    config, weights = order.files
    assert (config.inline, config.link) == (files[CONFIG], None)
    assert weights.link is not None
    assert weights.sha256 == found.files[1].sha256
    assert weights.link.expires_at is not None
    assert order.expires_at == weights.link.expires_at
    assert weights.link.url.startswith(hub.files_url)
    async with aiohttp.ClientSession() as session, session.get(weights.link.url) as answer:
        assert await answer.read() == files[WEIGHTS]


async def test_puts_small_weights_that_git_itself_holds_into_the_order(hub: LocalHub) -> None:
    files = adapter()
    put(hub, "org/my-lora", files, large_suffixes=())
    (found,) = (await resolved(hub, "org/my-lora")).adapters
    assert (found.files[1].sha256, found.files[1].tag[:4]) == ("", "git:")
    order = await located(hub, found, "org/my-lora")
    assert order.files[1].inline == files[WEIGHTS]


async def test_locates_the_same_content_after_further_commits_and_refuses_other_content(hub: LocalHub) -> None:
    put(hub, "org/my-lora", adapter())
    (found,) = (await resolved(hub, "org/my-lora")).adapters
    put(hub, "org/my-lora", adapter() | {"README.md": b"new"})
    assert (await located(hub, found, "org/my-lora")).fingerprint == found.fingerprint
    for files in (adapter(seed=3), adapter(lora_alpha=99), adapter(lora_alpha=9), {"README.md": b"all gone"}):
        put(hub, "org/my-lora", files)
        with pytest.raises(SourceError) as caught:
            await located(hub, found, "org/my-lora")
        assert (caught.value.reason, caught.value.retryable) == ("SourceChanged", True)


def test_the_hub_client_is_only_imported_by_those_who_ask_a_hub() -> None:
    script = "import sys, lora_operator.sources; sys.exit('huggingface_hub' in sys.modules or 'httpx2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
