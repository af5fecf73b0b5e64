"""One table of the facts that differ between vLLM releases, each with the releases it was seen in. Pure.

A fact holds from its `since` until the next row of the same fact. Where a change happened somewhere between two
releases that were looked at, `since` is placed so that the releases in between get the weaker assumption: one that
costs at most an engine name of its own or a refusal, and never a wrong answer.

`quirks.py` reads it: what it makes of releases that were never looked at is said there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Generic, TypeVar

Release = tuple[int, int, int]
T = TypeVar("T")


class PrefixCacheKey(StrEnum):
    """What tells the cached prefixes of two adapters apart."""

    LOAD_ID = "LoadID"  # a number per load: a name may be loaded again at will
    NAME = "Name"  # the name alone: another version under the same name is answered from the old one's cache
    NAME_AND_PATH = "NameAndPath"  # a new path under the same name is safe


class BaseNameCollision(StrEnum):
    """What happens to an adapter that is called like the base model."""

    UNREACHABLE = "Unreachable"  # 200, and requests still get the base
    TAKES_OVER = "TakesOver"  # 200, and requests for the base get the adapter
    REFUSED = "Refused"  # 400


class ErrorShape(StrEnum):
    """Where the error's type and message are; the client reads both."""

    FLAT = "Flat"  # {"object": "error", "message", "type"}
    NESTED = "Nested"  # {"error": {"message", "type"}}


class Handling(StrEnum):
    """What an engine does with an adapter that uses a feature."""

    HONOURED = "Honoured"
    IGNORED = "Ignored"  # 200, and answers that are wrong
    REFUSED = "Refused"  # the load fails


@dataclass(frozen=True, slots=True)
class Fact(Generic[T]):
    """`value` holds from release `since` on. `source`: the releases it was seen in; run = with a script against it."""

    since: Release
    value: T
    source: str


FIRST: Release = (0, 8, 5)
LAST: Release = (0, 33, 0)

PREFIX_CACHE_KEY = (
    Fact(FIRST, PrefixCacheKey.LOAD_ID, "read: 0.8.5, 0.10.2"),
    # vllm#27211 came after 0.11.0, vllm#30931 reports the wrong answers on 0.11.1
    Fact((0, 10, 3), PrefixCacheKey.NAME, "read: 0.12.0, 0.16.0, 0.20.2, 0.25.1; run, with wrong output: 0.28, 0.30"),
    Fact((0, 31, 0), PrefixCacheKey.NAME_AND_PATH, "run: 0.31 to 0.33"),
)
BASE_NAME_COLLISION = (
    Fact(FIRST, BaseNameCollision.UNREACHABLE, "read: 0.8.5"),
    Fact((0, 8, 6), BaseNameCollision.TAKES_OVER, "read: 0.10.2 to 0.25.1; run: 0.28, 0.30, 0.31"),
    Fact((0, 32, 0), BaseNameCollision.REFUSED, "run: 0.32, 0.33"),
)
ERROR_SHAPE = (
    Fact(FIRST, ErrorShape.FLAT, "read: 0.8.5"),
    Fact((0, 10, 2), ErrorShape.NESTED, "read: 0.10.2 to 0.25.1; run: 0.28 to 0.33"),
)
LOAD_FAILURE_STATUS = (
    Fact(FIRST, 400, "read: 0.8.5 to 0.16.0 (type BadRequestError)"),
    Fact((0, 18, 0), 500, "read: 0.20.2, 0.25.1; run: 0.28 to 0.33 (type InternalServerError)"),
)
LOADS_LOCKED_PER_NAME = (
    Fact(FIRST, False, "read: 0.8.5"),
    Fact((0, 10, 2), True, "read: 0.10.2 to 0.25.1; run: 0.28 to 0.33"),
)
KV_GAUGES: tuple[Fact[tuple[str, ...]], ...] = (
    Fact(FIRST, ("vllm:gpu_cache_usage_perc",), "read: 0.8.5"),
    Fact((0, 8, 6), ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"), "read: 0.10.2"),
    Fact((0, 12, 0), ("vllm:kv_cache_usage_perc",), "read: 0.12.0 to 0.25.1; run: 0.28 to 0.33"),
)
KEY_GUARDS: tuple[Fact[tuple[str, ...]], ...] = (
    Fact(FIRST, ("/v1",), "read: 0.8.5 to 0.20.2"),
    Fact((0, 25, 1), ("/v1", "/v2", "/inference"), "read: 0.25.1"),
    Fact((0, 28, 0), ("/v1", "/v2", "/inference", "/cohere"), "run: 0.28 to 0.33"),
)
OPEN_ADAPTERS_ROUTE = (
    Fact(FIRST, False, "read: 0.8.5, 0.10.2"),
    Fact((0, 10, 3), True, "read: 0.12.0 to 0.25.1; run: 0.28 to 0.33"),
)
WAITING_BY_REASON = (
    Fact(FIRST, False, "read: 0.8.5 to 0.16.0"),
    Fact((0, 20, 2), True, "read: 0.20.2, 0.25.1; run: 0.28 to 0.33"),
)
_IGNORED_UNTIL_032 = Fact(FIRST, Handling.IGNORED, "read: 0.8.5 to 0.25.1; run: 0.28, 0.30, 0.31")
_HONOURED = Fact(FIRST, Handling.HONOURED, "read: 0.8.5 to 0.25.1; run: 0.28 to 0.33")
# by the names that adapter inspection gives to what it finds
FEATURES: Mapping[str, tuple[Fact[Handling], ...]] = MappingProxyType(
    {
        "rank_pattern": (_IGNORED_UNTIL_032, Fact((0, 32, 0), Handling.HONOURED, "run: 0.32, 0.33")),
        "alpha_pattern": (_IGNORED_UNTIL_032, Fact((0, 32, 0), Handling.HONOURED, "run: 0.32, 0.33")),
        "pissa": (_IGNORED_UNTIL_032, Fact((0, 32, 0), Handling.REFUSED, "run: 0.32, 0.33")),
        "lora_bias": (_IGNORED_UNTIL_032, Fact((0, 32, 0), Handling.REFUSED, "run: 0.32, 0.33")),
        "rslora": (_HONOURED,),
        # PEFT's target_parameters. Before 0.32 layouts were not compared: right on architectures that keep experts
        # fused (GptOss, Qwen3VLMoe, Qwen3_5Moe, InternS1Pro), and cut up in another order on the others.
        "fused_experts": (
            Fact(FIRST, Handling.IGNORED, "read: 0.20.2, 0.25.1, 0.28.0, 0.31.0"),
            Fact(
                (0, 32, 0), Handling.HONOURED, "read: 0.32, 0.33; refused by the engine where its experts are not fused"
            ),
        ),
        # PEFT's modules_to_save, of a classifier's score or classifier
        "classification_head": (
            Fact(FIRST, Handling.REFUSED, "read: 0.8.5 to 0.25.1; run: 0.28 to 0.32 (any modules_to_save)"),
            Fact((0, 33, 0), Handling.HONOURED, "read: 0.33; refused by the engine where it serves no such classifier"),
        ),
    }
)
WHAT_TO_DO = MappingProxyType(
    {
        "rank_pattern": "use vLLM 0.32 or later, or train with one rank for all modules",
        "alpha_pattern": "use vLLM 0.32 or later, or train with one alpha for all modules",
        "pissa": "convert it to plain LoRA with peft's save_pretrained(path_initial_model_for_weight_conversion=…)",
        "lora_bias": "train it with lora_bias=False",
        "fused_experts": "use vLLM 0.32 or later, or leave the experts out of target_parameters",
        "classification_head": "use vLLM 0.33 or later, or train it without modules_to_save",
    }
)


def at(rows: tuple[Fact[T], ...], release: Release) -> T:
    """The value that a fact has in `release`, which is not older than the first row."""
    return next(fact.value for fact in reversed(rows) if fact.since <= release)
