"""Who goes: the whole decision, and each policy's order, without a disk."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_operator.cache.entry import Entry
from lora_operator.cache.history import THRASH_SECONDS, History
from lora_operator.cache.policies import POLICIES, Gdsf, Lru, Memory, Sieve
from lora_operator.cache.policies.base import EvictionPolicy
from lora_operator.cache.victims import Choice, Evicted, Why, choose_victims

TTL = 1000.0


def an_entry(name: str, *, size: int = 100, added: float = 0, used: float | None = None, **more: object) -> Entry:
    return Entry(name, "0" * 16, size, added, added if used is None else used, **more)  # type: ignore[arg-type]


def names(choice: Choice) -> list[str]:
    return [victim.name for victim in choice.victims]


def choose(entries: list[Entry], need: int, policy: EvictionPolicy | None = None, **more: object) -> Choice:
    options: dict[str, object] = {"now": 500.0, "protected": (), "ttl_seconds": TTL} | more
    return choose_victims(entries, need, policy=policy or Lru(), **options)  # type: ignore[arg-type]


def test_takes_no_more_than_is_needed() -> None:
    entries = [an_entry("a", used=1), an_entry("b", used=2), an_entry("c", used=3)]
    assert names(choose(entries, 0)) == []
    assert names(choose(entries, 100)) == ["a"]
    assert names(choose(entries, 101)) == ["a", "b"]
    assert choose(entries, 350).short_bytes == 50


def test_never_takes_what_is_pinned_or_protected() -> None:
    entries = [an_entry("a", used=1), an_entry("b", used=2, pinned=True), an_entry("c", used=3)]
    choice = choose(entries, 1000, protected={entries[0].key})
    assert (names(choice), choice.short_bytes) == (["c"], 900)


def test_takes_the_expired_first_then_stale_prefetches_then_what_the_policy_says() -> None:
    entries = [
        an_entry("recent", used=9990),
        an_entry("ahead-just-now", used=9991, prefetched=True),
        an_entry("stale", used=9000, prefetched=True),
        an_entry("used-ahead", used=9992, prefetched=True, hits=1),
        an_entry("expired", used=10),
    ]
    choice = choose(entries, 400, now=9000 + 3601, ttl_seconds=12000)
    assert [(victim.name, victim.why) for victim in choice.victims] == [
        ("expired", Why.EXPIRED), ("stale", Why.UNUSED_PREFETCH), ("recent", Why.ROOM), ("ahead-just-now", Why.ROOM),
    ]  # fmt: skip


def test_says_what_it_was_told_why_room_is_needed() -> None:
    assert choose([an_entry("a")], 1, why=Why.DISK_FULL).victims == (Evicted("a", "0" * 16, 100, Why.DISK_FULL),)


def test_sieve_passes_over_what_was_asked_for_since_it_last_came_by() -> None:
    entries = [an_entry("a", added=1, hits=1), an_entry("b", added=2), an_entry("c", added=3, hits=1)]
    first = choose(entries, 1, Sieve())
    assert names(first) == ["b"]
    left = [entries[0], entries[2], an_entry("d", added=4)]
    # the hand goes on from b: over c, whose hit counts once, to d
    second = choose(left, 1, Sieve(), memory=first.memory)
    assert names(second) == ["d"]
    # and begins anew: the hit of a counted when the hand first passed it
    assert names(choose(left[:2], 1, Sieve(), memory=second.memory)) == ["a"]
    again = [replace(left[0], hits=2), left[1]]
    assert names(choose(again, 1, Sieve(), memory=second.memory)) == ["c"]


def test_gdsf_keeps_what_is_dear_to_fetch_and_often_asked_for() -> None:
    entries = [
        an_entry("large-and-quick", size=1000, load_seconds=1.0),
        an_entry("small-and-slow", size=100, load_seconds=1.0),
        an_entry("large-and-popular", size=1000, load_seconds=1.0, hits=20),
    ]
    assert names(choose(entries, 1100, Gdsf())) == ["large-and-quick", "small-and-slow"]


def test_gdsf_forgets_old_fame() -> None:
    entries = [an_entry("was-famous", used=0, hits=5, load_seconds=1.0)]
    memory = Memory()
    for turn in range(1, 20):
        entries.append(an_entry(f"new-{turn}", added=turn, load_seconds=1.0))
        choice = choose(entries, 100, Gdsf(), now=float(turn), memory=memory)
        memory = choice.memory
        entries = [entry for entry in entries if entry.name not in names(choice)]
        if "was-famous" in names(choice):
            break
    else:
        pytest.fail("it never aged")
    assert turn > 3


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
@given(data=st.data())
def test_every_policy_is_the_same_in_any_order_and_frees_enough(policy: EvictionPolicy, data: st.DataObject) -> None:
    times, sizes = st.integers(0, 50).map(float), st.integers(0, 300)
    drawn = data.draw(st.lists(st.tuples(sizes, times, times, st.integers(0, 3), st.booleans()), max_size=8))
    entries = [
        an_entry(str(index), size=size, added=min(one, other), used=max(one, other), hits=hits, prefetched=ahead)
        for index, (size, one, other, hits, ahead) in enumerate(drawn)
    ]
    need = data.draw(st.integers(0, 1500))
    memory = Memory(hand=(data.draw(times), ("3", "0" * 16)), inflation=((3.0, 0.1), (10.0, 0.5)))
    mixed = entries[:]
    random.Random(0).shuffle(mixed)
    choice = choose(entries, need, policy, memory=memory)
    assert choose(mixed, need, policy, memory=memory) == choice
    freed = sum(victim.size_bytes for victim in choice.victims)
    assert choice.short_bytes == max(need - freed, 0)
    assert len({victim.key for victim in choice.victims}) == len(choice.victims)
    if choice.short_bytes:
        assert len(choice.victims) == len(entries)
    elif choice.victims:
        assert freed - choice.victims[-1].size_bytes < need


def test_history_counts_what_comes_back_within_the_hour_as_thrash_once() -> None:
    gone = an_entry("a", hits=3)
    history = History().evicted([gone], 100.0)
    assert (history.counts.hits, history.counts.evictions, history.counts.evicted_bytes) == (3, 1, 100)
    back = history.missed(gone.key, 100.0 + THRASH_SECONDS)
    assert (back.counts.thrash, back.counts.misses) == (1, 1)
    assert back.missed(gone.key, 101.0).counts.thrash == 1
    assert history.missed(gone.key, 101.0 + THRASH_SECONDS).counts.thrash == 0
