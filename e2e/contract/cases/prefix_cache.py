"""The prefix cache, and whether an answer is computed from another version's prefix."""

from __future__ import annotations

from pathlib import Path

from ..by_release import NEW_PATH, SAME_PATH
from ..case import Cases, Server
from ..target import BASE, LONG, Target

cases = Cases()


async def _fresh(t: Target) -> str:
    """The right answer of the second version, under a name that was never served."""
    t.next_name += 1
    name = f"fresh-{t.next_name}"
    await t.must_load(name, t.fixture("lora-v2"))
    answer = await t.answer(name, LONG)
    await t.unload(name)
    return answer


@cases("a prompt that was there before is reused, in whole blocks")
async def a_repeated_prompt_is_reused(t: Target) -> None:
    await t.post("/reset_prefix_cache", {})
    cached = []
    for _ in range(2):
        usage = (await t.complete(BASE, LONG)).json["usage"]
        cached.append(usage["prompt_tokens_details"]["cached_tokens"] if usage["prompt_tokens_details"] else 0)
    assert cached == [0, 256]


@cases("two adapters never share a prefix")
async def two_adapters_do_not_share_a_prefix(t: Target) -> None:
    right = await _fresh(t)
    name = f"other-{t.next_name}"
    await t.must_load(name, t.fixture("lora"))
    assert await t.answer(BASE, LONG) != await t.answer(name, LONG) != right


@cases("same name, new path: right up to 0.10 and since 0.31, stale from 0.12 to 0.30")
async def the_same_name_from_a_new_path(t: Target) -> None:
    right = await _fresh(t)
    await t.must_load("m", t.copy("lora"))
    old = await t.answer("m", LONG)
    await t.unload("m")
    await t.must_load("m", t.copy("lora-v2"))
    answer = await t.answer("m", LONG)
    assert answer != old
    assert ("right" if answer == right else "stale") == NEW_PATH[t.release]


@cases("same name, same path, new files: right up to 0.10, stale since 0.12, even after unload and load")
async def the_same_name_from_the_same_path_with_new_files(t: Target) -> None:
    right = await _fresh(t)
    folder = t.copy("lora")
    await t.must_load("n", folder)
    await t.answer("n", LONG)
    await t.unload("n")
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes((Path(t.fixture("lora-v2")) / weights.name).read_bytes())
    await t.must_load("n", folder)
    answer = await t.answer("n", LONG)
    assert ("right" if answer == right else "stale") == SAME_PATH[t.release]


@cases("a new name per version is right everywhere")
async def a_new_name_for_a_new_version_is_right(t: Target) -> None:
    right = await _fresh(t)
    await t.must_load("p--1", t.copy("lora"))
    await t.answer("p--1", LONG)
    await t.unload("p--1")
    await t.must_load("p--2", t.copy("lora-v2"))
    assert await t.answer("p--2", LONG) == right


@cases("with VLLM_SERVER_DEV_MODE=1, POST /reset_prefix_cache makes the same name right")
async def a_reset_makes_the_same_name_right(t: Target) -> None:
    right = await _fresh(t)
    await t.must_load("q", t.copy("lora"))
    await t.answer("q", LONG)
    await t.unload("q")
    assert (await t.post("/reset_prefix_cache", {})).status == 200
    await t.must_load("q", t.copy("lora-v2"))
    assert await t.answer("q", LONG) == right


@cases("with --no-enable-prefix-caching the same name is right", server=Server.KEYED)
async def without_prefix_caching_the_same_name_is_right(t: Target) -> None:
    right = await _fresh(t)
    await t.must_load("m", t.copy("lora"))
    await t.answer("m", LONG)
    await t.unload("m")
    await t.must_load("m", t.copy("lora-v2"))
    assert await t.answer("m", LONG) == right
