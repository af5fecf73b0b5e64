from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from e2e.world.adapters import write_adapter
from lora_operator.artifacts import AdapterRefused, inspect
from lora_operator.artifacts.base_name import UNKNOWN_MODEL
from lora_operator.informers.records import Resource
from lora_operator.informers.sources import MOST_ALIASES, Resolver
from lora_operator.sources import sources_by_type
from tests.core.builders import a_resource


def test_an_adapter_may_name_its_base_model_as_the_pods_call_it_besides(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", base_model="meta-llama/Llama-3.1-8B")
    with pytest.raises(AdapterRefused):
        inspect(folder, served_base_model="team/chat")
    assert inspect(folder, served_base_model="team/chat", base_aliases=("meta-llama/Llama-3.1-8B",)).rank == 8


def test_a_made_up_served_name_contradicts_nothing_and_the_model_behind_it_does(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", base_model="meta-llama/Llama-3.1-8B")
    assert inspect(folder, served_base_model="chat").rank == 8
    assert inspect(folder, served_base_model="team/chat", base_aliases=(UNKNOWN_MODEL,)).rank == 8
    with pytest.raises(AdapterRefused):
        inspect(folder, served_base_model="chat", base_aliases=("mistralai/Mistral-7B",))


async def test_a_resource_may_say_that_the_names_of_base_models_do_not_count(tmp_path: Path) -> None:
    write_adapter(tmp_path / "a", base_model="meta-llama/Llama-3.1-8B")
    spec = {"baseModel": "team/chat", "adapterSource": {"type": "local", "repository": str(tmp_path)}}
    resolver = Resolver(sources_by_type(), lambda: None, interval_seconds=60.0, base_shapes={})
    try:
        refused = a_resource(spec=spec)
        resolver.sync_targets([refused])
        await resolver.first_reads(5.0)
        resolution = resolver.views[refused.key].resolution
        assert resolution is not None and [item.reason for item in resolution.broken] == ["BaseModelMismatch"]
        resolver.sync_targets([a_resource(spec=spec | {"baseModelCheck": "Skip"})])
        await resolver.first_reads(5.0)
        resolution = resolver.views[refused.key].resolution
        assert resolution is not None and [item.name for item in resolution.adapters] == ["a"]
    finally:
        await resolver.stop()


async def test_what_pods_serve_a_model_under_counts_for_its_adapters_even_when_the_pods_are_gone(
    tmp_path: Path,
) -> None:
    write_adapter(tmp_path / "a", base_model="meta-llama/Llama-3.1-8B")
    spec = {"baseModel": "team/chat", "adapterSource": {"type": "local", "repository": str(tmp_path)}}
    resource = a_resource(spec=spec)
    resolver = Resolver(sources_by_type(), lambda: None, interval_seconds=60.0, base_shapes={})
    try:
        resolver.sync_targets([resource])
        await resolver.first_reads(5.0)
        resolution = resolver.views[resource.key].resolution
        assert resolution is not None and resolution.broken[0].reason == "BaseModelMismatch", json.dumps(
            str(resolution)
        )
        resolver.sync_targets([resource], [("ns", ("team/chat", "meta-llama/Llama-3.1-8B"))])
        await resolver.first_reads(5.0)
        resolver.sync_targets([resource])
        await resolver.first_reads(5.0)
        resolution = resolver.views[resource.key].resolution
        assert resolution is not None and [a.name for a in resolution.adapters] == ["a"]
    finally:
        await resolver.stop()


def is_accepted(resolver: Resolver, resource: Resource) -> bool | None:
    view = resolver.views[resource.key]
    if view.resolution is None or not view.checked:
        return None
    return bool(view.resolution.adapters and not view.resolution.stale)


async def test_what_is_behind_a_name_is_unknown_until_a_pod_tells(tmp_path: Path) -> None:
    write_adapter(tmp_path / "a", base_model="meta-llama/Llama-3.1-8B")
    spec = {"baseModel": "team/chat", "adapterSource": {"type": "local", "repository": str(tmp_path)}}
    resource = a_resource(spec=spec)
    changed = asyncio.Event()
    resolver = Resolver(sources_by_type(), changed.set, interval_seconds=60.0, base_shapes={})
    try:
        for names, accepted in (
            (("team/chat", UNKNOWN_MODEL), True),
            (("team/chat", "mistralai/Mistral-7B"), False),
            (("team/chat", "meta-llama/Llama-3.1-8B"), True),
        ):
            resolver.sync_targets([resource], [("ns", names)])
            async with asyncio.timeout(60.0):
                while is_accepted(resolver, resource) is not accepted:
                    await changed.wait()
                    changed.clear()
    finally:
        await resolver.stop()


async def test_names_that_nobody_wants_are_not_kept_and_of_one_model_only_so_many(tmp_path: Path) -> None:
    spec = {"baseModel": "chat", "adapterSource": {"type": "local", "repository": str(tmp_path)}}
    resource = a_resource(spec=spec)
    resolver = Resolver(sources_by_type(), lambda: None, interval_seconds=60.0, base_shapes={})
    try:
        for number in range(3 * MOST_ALIASES):
            resolver.sync_targets([resource], [("ns", ("chat", f"chat-{number}")), ("ns", (f"other-{number}",))])
        (names,) = resolver._aliases.values()
        assert len(names) == MOST_ALIASES and {"chat", f"chat-{number}"} <= names
        resolver.sync_targets([], [("ns", ("chat", "more"))])
        assert not resolver._aliases
    finally:
        await resolver.stop()
