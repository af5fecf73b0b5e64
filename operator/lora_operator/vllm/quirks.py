"""One table of the facts that differ between vLLM releases, each with the releases it was seen in. Pure.

A fact holds from its `since` until the next row of the same fact. Where a change happened somewhere between two
releases that were looked at, `since` is placed so that the releases in between get the weaker assumption: one that
costs at most an engine name of its own or a refusal, and never a wrong answer.

For releases that were never looked at (older than the first row, newer than the last, or not readable) `quirks_for`
answers what is right on every release: see `Known`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
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


class Known(StrEnum):
    """How much is known about a release."""

    TABLE = "Table"  # within the table
    NEWER = "Newer"  # as the last row, but nothing about the prefix cache is taken for granted
    OLDER = "Older"  # as the first row, with the same caution
    UNREADABLE = "Unreadable"  # the weakest of all rows


@dataclass(frozen=True, slots=True)
class Fact(Generic[T]):
    """`value` holds from release `since` on. `source`: the releases it was seen in; run = with a script against it."""

    since: Release
    value: T
    source: str


FIRST: Release = (0, 8, 5)
LAST: Release = (0, 32, 0)

PREFIX_CACHE_KEY = (
    Fact(FIRST, PrefixCacheKey.LOAD_ID, "read: 0.8.5, 0.10.2"),
    # vllm#27211 came after 0.11.0, vllm#30931 reports the wrong answers on 0.11.1
    Fact((0, 10, 3), PrefixCacheKey.NAME, "read: 0.12.0, 0.16.0, 0.20.2, 0.25.1; run, with wrong output: 0.28, 0.30"),
    Fact((0, 31, 0), PrefixCacheKey.NAME_AND_PATH, "run: 0.31, 0.32"),
)
BASE_NAME_COLLISION = (
    Fact(FIRST, BaseNameCollision.UNREACHABLE, "read: 0.8.5"),
    Fact((0, 8, 6), BaseNameCollision.TAKES_OVER, "read: 0.10.2 to 0.25.1; run: 0.28, 0.30, 0.31"),
    Fact((0, 32, 0), BaseNameCollision.REFUSED, "run: 0.32"),
)
ERROR_SHAPE = (
    Fact(FIRST, ErrorShape.FLAT, "read: 0.8.5"),
    Fact((0, 10, 2), ErrorShape.NESTED, "read: 0.10.2 to 0.25.1; run: 0.28 to 0.32"),
)
LOAD_FAILURE_STATUS = (
    Fact(FIRST, 400, "read: 0.8.5 to 0.16.0 (type BadRequestError)"),
    Fact((0, 18, 0), 500, "read: 0.20.2, 0.25.1; run: 0.28 to 0.32 (type InternalServerError)"),
)
LOADS_LOCKED_PER_NAME = (
    Fact(FIRST, False, "read: 0.8.5"),
    Fact((0, 10, 2), True, "read: 0.10.2 to 0.25.1; run: 0.28 to 0.32"),
)
KV_GAUGES: tuple[Fact[tuple[str, ...]], ...] = (
    Fact(FIRST, ("vllm:gpu_cache_usage_perc",), "read: 0.8.5"),
    Fact((0, 8, 6), ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"), "read: 0.10.2"),
    Fact((0, 12, 0), ("vllm:kv_cache_usage_perc",), "read: 0.12.0 to 0.25.1; run: 0.28 to 0.32"),
)
KEY_GUARDS: tuple[Fact[tuple[str, ...]], ...] = (
    Fact(FIRST, ("/v1",), "read: 0.8.5 to 0.20.2"),
    Fact((0, 25, 1), ("/v1", "/v2", "/inference"), "read: 0.25.1"),
    Fact((0, 28, 0), ("/v1", "/v2", "/inference", "/cohere"), "run: 0.28 to 0.32"),
)
OPEN_ADAPTERS_ROUTE = (
    Fact(FIRST, False, "read: 0.8.5, 0.10.2"),
    Fact((0, 10, 3), True, "read: 0.12.0 to 0.25.1; run: 0.28 to 0.32"),
)
WAITING_BY_REASON = (
    Fact(FIRST, False, "read: 0.8.5 to 0.16.0"),
    Fact((0, 20, 2), True, "read: 0.20.2, 0.25.1; run: 0.28 to 0.32"),
)
_IGNORED_UNTIL_032 = Fact(FIRST, Handling.IGNORED, "read: 0.8.5 to 0.25.1; run: 0.28, 0.30, 0.31")
_HONOURED = Fact(FIRST, Handling.HONOURED, "read: 0.8.5 to 0.25.1; run: 0.28 to 0.32")
# by the names that adapter inspection gives to what it finds
FEATURES: Mapping[str, tuple[Fact[Handling], ...]] = MappingProxyType(
    {
        "rank_pattern": (_IGNORED_UNTIL_032, Fact((0, 32, 0), Handling.HONOURED, "run: 0.32")),
        "alpha_pattern": (_IGNORED_UNTIL_032, Fact((0, 32, 0), Handling.HONOURED, "run: 0.32")),
        "pissa": (_IGNORED_UNTIL_032, Fact((0, 32, 0), Handling.REFUSED, "run: 0.32")),
        "lora_bias": (_IGNORED_UNTIL_032, Fact((0, 32, 0), Handling.REFUSED, "run: 0.32")),
        "rslora": (_HONOURED,),
    }
)
WHAT_TO_DO = MappingProxyType(
    {
        "rank_pattern": "use vLLM 0.32 or later, or train with one rank for all modules",
        "alpha_pattern": "use vLLM 0.32 or later, or train with one alpha for all modules",
        "pissa": "convert it to plain LoRA with peft's save_pretrained(path_initial_model_for_weight_conversion=…)",
        "lora_bias": "train it with lora_bias=False",
    }
)


@dataclass(frozen=True, slots=True)
class Quirks:
    """All facts of one release. `release` is None where the engine's own word for it could not be read."""

    version: str
    release: Release | None
    known: Known
    prefix_cache_key: PrefixCacheKey
    base_name_collision: BaseNameCollision
    error_shape: ErrorShape
    load_failure_status: int
    loads_locked_per_name: bool
    kv_gauges: tuple[str, ...]  # best first
    key_guards: tuple[str, ...]  # path prefixes that --api-key protects
    open_adapters_route: bool  # SageMaker's POST and DELETE /adapters, which no key protects
    has_waiting_by_reason: bool
    features: Mapping[str, Handling]

    @property
    def honours_patterns(self) -> bool:
        """rank_pattern and alpha_pattern have their effect."""
        return all(self.features[name] is Handling.HONOURED for name in ("rank_pattern", "alpha_pattern"))


_VERSION = re.compile(r"v?(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?(?P<rest>[^0-9.].*|\.(?:dev|post).*)?", re.DOTALL)
_UNRELEASED = re.compile(r"[-._]?(?:a|b|c|rc|alpha|beta|pre|preview|dev)\d*(?![a-z])")


def parse_release(version: str) -> Release | None:
    """The release that a version is at least as new as: `0.31.1+cpu` is 0.31.1, `0.31.0rc2` is still before 0.31.0.

    A pre-release comes before its release and may lack anything that is new in it, so that it counts as the patch
    level below, or as the last conceivable one of the minor release below. None where it is not a version.
    """
    match = _VERSION.fullmatch(version.strip()[:200])
    if match is None:
        return None
    release = (int(match[1]), int(match[2]), int(match[3] or 0))
    if _UNRELEASED.match((match["rest"] or "").lower()):
        return _before(release)
    return release


def _before(release: Release) -> Release:
    major, minor, patch = release
    if patch:
        return (major, minor, patch - 1)
    if minor:
        return (major, minor - 1, 9999)
    return (max(major - 1, 0), 9999, 9999)


def quirks_for(version: str) -> Quirks:
    """The facts of `version` (as /version says it, or an image tag). Never raises.

    Newer than the table: as the last row, except that the prefix cache counts as keyed by name: a new version then gets
    an engine name of its own, which is right on every release. Older: as the first row, with the same caution, and all
    features but rsLoRA count as ignored. Not readable: the weakest of all rows for each fact.
    """
    release = parse_release(version)
    if release is None:
        weakest = _facts(version, None, Known.UNREADABLE, FIRST)
        return replace(
            weakest,
            prefix_cache_key=PrefixCacheKey.NAME,
            base_name_collision=BaseNameCollision.TAKES_OVER,
            error_shape=ErrorShape.NESTED,
            load_failure_status=500,
            kv_gauges=("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
            open_adapters_route=True,
        )
    if release < FIRST:
        return replace(_facts(version, release, Known.OLDER, FIRST), prefix_cache_key=PrefixCacheKey.NAME)
    if release[:2] > LAST[:2]:  # patch releases of a release that was looked at are taken to be like it
        return replace(_facts(version, release, Known.NEWER, LAST), prefix_cache_key=PrefixCacheKey.NAME)
    return _facts(version, release, Known.TABLE, release)


def unsupported_features(version: str, features: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Which of an adapter's features this release gets wrong or refuses, sorted, each with why and what to do.

    A feature that the table does not know counts as unsupported: nobody has seen it give right answers.
    """
    quirks = quirks_for(version)
    return tuple((feature, why) for feature in sorted(set(features)) if (why := _objection(quirks, feature)))


def _objection(quirks: Quirks, feature: str) -> str | None:
    handling = quirks.features.get(feature)
    engine = f"vLLM {quirks.version[:40]}" if quirks.release else "this engine, whose release is not known,"
    if handling is Handling.HONOURED:
        return None
    if handling is None:
        return f"no vLLM release is known to support {feature}; train the adapter without it"
    verb = "refuses" if handling is Handling.REFUSED else "ignores"
    result = "" if handling is Handling.REFUSED else " and would answer wrongly"
    return f"{engine} {verb} {feature}{result}; {WHAT_TO_DO.get(feature, 'train the adapter without it')}"


def _facts(version: str, release: Release | None, known: Known, row: Release) -> Quirks:
    return Quirks(
        version=version,
        release=release,
        known=known,
        prefix_cache_key=_at(PREFIX_CACHE_KEY, row),
        base_name_collision=_at(BASE_NAME_COLLISION, row),
        error_shape=_at(ERROR_SHAPE, row),
        load_failure_status=_at(LOAD_FAILURE_STATUS, row),
        loads_locked_per_name=_at(LOADS_LOCKED_PER_NAME, row),
        kv_gauges=_at(KV_GAUGES, row),
        key_guards=_at(KEY_GUARDS, row),
        open_adapters_route=_at(OPEN_ADAPTERS_ROUTE, row),
        has_waiting_by_reason=_at(WAITING_BY_REASON, row),
        features=MappingProxyType({name: _at(rows, row) for name, rows in FEATURES.items()}),
    )


def _at(rows: tuple[Fact[T], ...], release: Release) -> T:
    return next(fact.value for fact in reversed(rows) if fact.since <= release)
