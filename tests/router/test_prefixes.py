"""Prompts go where their beginning is probably cached, for this version of the adapter, within bounds."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_operator.informers.endpoints import body_of
from lora_operator.router.entries import Endpoint, Entry
from lora_operator.router.picker import Picker
from lora_operator.router.prefix_affinity import MOST_HOLDERS, PrefixAffinity
from lora_operator.router.prefix_index import PrefixIndex
from lora_operator.router.prompt_blocks import BLOCK_CHARACTERS, MEMBERS, MOST_BLOCKS, NO_PROMPT, Prompt, prompt_of
from tests.router.fleet import NAMESPACE, Fleet, a_fleet
from tests.router.serving import served

NOBODY: frozenset[str] = frozenset()
SYSTEM = {"role": "system", "content": "You are a helpful assistant. " * 20}


def a_chat(*said: str) -> Prompt:
    roles = ("user", "assistant")
    turns = [{"role": roles[number % 2], "content": text} for number, text in enumerate(said)]
    return prompt_of({"messages": [SYSTEM, *turns]})


def shared(one: Prompt, other: Prompt) -> int:
    """How many blocks they begin with together."""
    pairs = zip(one.blocks, other.blocks, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(one.blocks), len(other.blocks)))


def test_the_next_turn_of_a_chat_begins_with_the_last_one() -> None:
    first = a_chat("Hello there. " * 40)
    second = a_chat("Hello there. " * 40, "Hello! " * 80, "And now? " * 60)
    assert shared(first, second) == len(first.blocks) >= 4 and len(second.blocks) > len(first.blocks)
    assert shared(first, a_chat("Another question. " * 40)) == len(str(SYSTEM["content"])) // BLOCK_CHARACTERS


def test_roles_tools_and_images_are_parts_of_a_prompt() -> None:
    text, image = "x" * 600, [{"type": "image_url", "image_url": {"url": "data:" + "A" * 5000}}]
    variants: list[dict[str, Any]] = [
        {"messages": [{"role": "user", "content": text}]},
        {"messages": [{"role": "assistant", "content": text}]},
        {"messages": [{"role": "user", "content": text}], "tools": [{"function": {"name": "f"}}]},
        {"messages": [{"role": "user", "content": [*image, {"type": "text", "text": text}]}]},
        {"prompt": text},
        {"prompt": [1] * 600},
        {"instructions": "Be brief.", "input": text},
    ]
    prompts = [prompt_of(body) for body in variants]
    assert all(prompt.blocks for prompt in prompts)
    assert len({prompt.blocks[0] for prompt in prompts}) == len(variants)
    assert [prompt_of(body) for body in variants] == prompts


@settings(deadline=None, max_examples=50)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=4)
                    | st.dictionaries(st.sampled_from(["role", "content", "text", "tool_calls"]), inner, max_size=4),
                    max_leaves=20),
       st.sampled_from(sorted(MEMBERS)))  # fmt: skip
def test_no_body_is_too_strange(value: Any, member: str) -> None:
    prompt = prompt_of({member: value})
    assert len(prompt.blocks) <= MOST_BLOCKS


def test_of_a_huge_prompt_only_the_beginning_is_read() -> None:
    prompt = prompt_of({"prompt": "word " * 1_000_000})
    assert len(prompt.blocks) == MOST_BLOCKS and prompt.thousands == MOST_BLOCKS / 16
    assert len(prompt_of({"prompt": [7] * 1_000_000}).blocks) == MOST_BLOCKS


def test_a_session_is_what_the_header_says_else_the_body() -> None:
    body = {"prompt_cache_key": "a", "user": "b"}
    marks = [prompt_of(body, "c"), prompt_of(body), prompt_of({"user": "b"}), prompt_of({})]
    assert len({prompt.session for prompt in marks}) == 4 and marks[-1] == NO_PROMPT and not NO_PROMPT
    assert prompt_of(body, "c").session == prompt_of({}, "c").session


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 6), st.lists(st.integers(0, 3), min_size=1, max_size=6)), max_size=60),
       st.integers(8, 64), st.integers(4, 40))  # fmt: skip
def test_the_index_never_has_more_than_it_may_and_a_block_never_without_those_before_it(
    sent: list[tuple[int, list[int]]], most: int, most_of_pod: int
) -> None:
    index = PrefixIndex(most, most_of_pod)
    for pod, path in sent:
        blocks = [hash(tuple(path[: end + 1])) for end in range(len(path))]
        index.sent(f"p{pod}", 7, blocks)
        assert len(index) == sum(index.of(f"p{one}") for one in range(7)) <= most
        assert max(index.of(f"p{one}") for one in range(7)) <= most_of_pod
        for one in range(7):
            matched = index.matched(f"p{one}", 7, blocks)
            assert all(index.matched(f"p{one}", 7, blocks[:end]) == min(end, matched) for end in range(len(blocks)))
            assert index.matched(f"p{one}", 8, blocks) == 0  # of another adapter, or another version
        half = min(most_of_pod, most // 7) // 2
        if len(set(blocks)) <= half:
            assert index.matched(f"p{pod}", 7, blocks) == len(blocks)
    for pod in range(7):
        index.forget(f"p{pod}")
    assert len(index) == 0


def picks(picker: Picker, fleet: Fleet, prompt: Prompt, times: int = 1, adapter: str = "sql") -> Counter[str]:
    found: Counter[str] = Counter()
    for _ in range(times):
        entry = fleet.table.get(NAMESPACE, adapter)
        assert entry is not None
        picked = picker.pick(entry, "", "", NOBODY, prompt)
        assert picked is not None
        found[picked.pod] += 1
    return found


class Time:
    now = 0.0

    def __call__(self) -> float:
        """So late after the last that nothing is being computed and what was sent has faded."""
        self.now += 600.0
        return self.now


def renew(fleet: Fleet, pod: str) -> None:
    """A new version of `sql` is there, under the same name."""
    said = fleet.contents(pod, {"sql": ("sql", "la")})
    said = replace(said, adapters=tuple(replace(one, version="new") for one in said.adapters))
    body = fleet.cluster.endpoints.get(f"{NAMESPACE}/{pod}")
    assert body is not None
    metadata = {"namespace": NAMESPACE, "name": pod, "uid": body.uid, "resourceVersion": f"{body.version + 100}"}
    made = body_of(f"{NAMESPACE}/{pod}", said)
    fleet.cluster.endpoints.put(made | {"metadata": made["metadata"] | metadata})


def a_versioned_fleet(pods: int = 4) -> Fleet:
    fleet = Fleet()
    for number in range(pods):
        fleet.pod(f"vllm-{number}", f"10.0.0.{number + 1}", uid=f"uid-{number}", container=f"containerd://c{number}")
    fleet.adapter("la", {f"vllm-{number}": {"sql": "sql"} for number in range(pods)})
    fleet.refresh()
    return fleet


def a_picker(fleet: Fleet) -> Picker:
    picker = Picker(fleet.table, random.Random(1), Time(), pods=fleet.cluster.pods.get)
    picker.see([f"{NAMESPACE}/vllm-{number}" for number in range(4)])
    return picker


def test_a_chat_stays_on_its_pod_and_another_adapter_or_version_begins_anew() -> None:
    fleet = a_versioned_fleet()
    picker = a_picker(fleet)
    prompt = a_chat("Hello there. " * 400)
    ((pod, _),) = picks(picker, fleet, prompt).items()
    assert picks(picker, fleet, prompt, 20) == {pod: 20}
    entry = fleet.table.get(NAMESPACE, "sql")
    assert entry is not None
    assert picker.pick(entry, "", "", frozenset({pod}), prompt) is not None  # and not where it must not go
    for number in range(4):
        renew(fleet, f"vllm-{number}")
    fleet.refresh()
    renewed = fleet.table.get(NAMESPACE, "sql")
    assert renewed is not None and {one.version for one in renewed.endpoints} == {"new"}
    assert set(picker.prefixes.saved(renewed, prompt, picker.clock()).values()) == {0.0}


def test_a_restarted_container_has_nothing_in_its_cache() -> None:
    fleet = a_versioned_fleet(2)
    picker = a_picker(fleet)
    prompt = a_chat("Hello there. " * 400)
    ((pod, _),) = picks(picker, fleet, prompt).items()
    entry = fleet.table.get(NAMESPACE, "sql")
    assert entry is not None
    assert picker.prefixes.saved(entry, prompt, picker.clock())[f"{NAMESPACE}/{pod}"] > 1
    number = pod.rpartition("-")[2]
    fleet.pod(pod, f"10.0.0.{int(number) + 1}", uid=f"uid-{number}", container="containerd://another")
    picker.see([f"{NAMESPACE}/{pod}"])
    assert picker.prefixes.saved(entry, prompt, picker.clock())[f"{NAMESPACE}/{pod}"] == 0.0
    assert len(picker.prefixes.index) == 0


def test_a_session_without_a_long_prompt_comes_back_to_its_pod() -> None:
    fleet = a_versioned_fleet()
    picker = a_picker(fleet)
    prompt = prompt_of({"prompt": "short"}, "session-7")
    ((pod, _),) = picks(picker, fleet, prompt).items()
    assert picks(picker, fleet, prompt, 20) == {pod: 20}


def test_no_holder_is_flooded_however_much_of_a_prompt_it_has() -> None:
    fleet = a_versioned_fleet()
    picker = a_picker(fleet)
    picker.clock = lambda: 1e6  # all at once: nothing ends
    prompt = a_chat("Hello there. " * 2000)
    found = picks(picker, fleet, prompt, 200)
    rules = picker.rules
    assert max(found.values()) <= max((1 + rules.epsilon) * 50, 50 + rules.slack) + 1


@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_a_pick_holds_the_adapter_now_and_equal_histories_give_equal_picks(seed: int) -> None:
    def play() -> list[str]:
        chance, found = random.Random(seed), []
        fleet = a_versioned_fleet()
        picker = a_picker(fleet)
        chats = [a_chat(f"chat {number} " * chance.randrange(10, 300)) for number in range(8)]
        for _ in range(80):
            if chance.random() < 0.3:
                name = f"vllm-{chance.randrange(4)}"
                number = int(name[-1])
                fleet.pod(name, f"10.0.0.{number + 1}", ready=chance.random() < 0.8, uid=f"uid-{number}",
                          container=f"containerd://c{chance.randrange(3)}")  # fmt: skip
                held = {
                    f"vllm-{n}": {"sql": chance.choice(["sql", "sql--1"])} for n in range(4) if chance.random() < 0.7
                }
                fleet.adapter("la", held, names=("sql",))
                fleet.refresh()
                picker.see([f"{NAMESPACE}/{name}"])
            entry = fleet.table.get(NAMESPACE, "sql")
            assert entry is not None
            picked = picker.pick(entry, chance.choice(["", "weighted"]), "", NOBODY, chance.choice(chats))
            assert picked in entry.endpoints if entry.endpoints else picked is None
            found.append("" if picked is None else picked.pod)
        return found

    assert play() == play()


def test_of_very_many_holders_some_are_compared_and_the_same_for_all_turns_of_a_chat() -> None:
    entry = Entry("n", "a", "llama", "a", tuple(Endpoint(f"p{n}", f"10.0.{n}.1:8000", "a") for n in range(500)))
    prefixes = PrefixAffinity()
    first, second = a_chat("Hello there. " * 100), a_chat("Hello there. " * 100, "Yes? " * 100, "Go on. " * 100)
    some = prefixes.saved(entry, first, 0.0)
    assert len(some) == MOST_HOLDERS and some.keys() == prefixes.saved(entry, second, 0.0).keys()


def test_without_room_nothing_is_remembered() -> None:
    fleet = a_fleet()
    picker = Picker(fleet.table, prefixes=PrefixAffinity(0))
    picks(picker, fleet, a_chat("Hello there. " * 400), 5)
    assert len(picker.prefixes.index) == 0 == picker.prefixes.other_blocks


async def test_a_pick_over_http_takes_a_prompt_and_says_what_it_counts() -> None:
    messages = [SYSTEM, {"role": "user", "content": "Which tables are there? " * 100}]
    async with served(a_fleet()) as api:
        _, first = await api.post("/v1/pick", {"adapter": "sql", "messages": messages})
        _, body = await api.post("/v1/pick", {"adapter": "sql", "messages": messages, "explain": True})
        prefix = {one["pod"]: one["prefix"] for one in body["candidates"]}
        other = "vllm-1" if first["pod"] == "vllm-0" else "vllm-0"
        assert prefix[first["pod"]] != 0 and prefix[other] == 0
        await api.until_metric('lora_operator_router_prompt_blocks_total{cached="no"}')
        status, _ = await api.post("/v1/pick", {"adapters": ["sql"], "prompt": "x"})
        assert status == 400
