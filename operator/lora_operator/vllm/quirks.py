"""What an engine's release means for us: its facts, what it makes of an adapter, and under which name a version of an
adapter may be loaded so that no answer comes from another one's cache. Pure; the table of facts is in `facts.py`.

For releases that were never looked at (older than the first row of the table, newer than the last, or not readable)
`quirks_for` answers what is right on every release: see `Known`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType

from lora_operator.vllm.facts import (
    BASE_NAME_COLLISION,
    ERROR_SHAPE,
    FEATURES,
    FIRST,
    KEY_GUARDS,
    KV_GAUGES,
    LAST,
    LOAD_FAILURE_STATUS,
    LOADS_LOCKED_PER_NAME,
    OPEN_ADAPTERS_ROUTE,
    PREFIX_CACHE_KEY,
    WAITING_BY_REASON,
    WHAT_TO_DO,
    BaseNameCollision,
    ErrorShape,
    Handling,
    PrefixCacheKey,
    Release,
    at,
)
from lora_scheduler.model import Reason

__all__ = [
    "BaseNameCollision",
    "ErrorShape",
    "Handling",
    "Known",
    "LoadName",
    "PrefixCacheKey",
    "Quirks",
    "StaleCache",
    "engine_name",
    "is_versioned",
    "load_name",
    "parse_release",
    "public_name",
    "quirks_for",
    "unsupported_features",
]


class Known(StrEnum):
    """How much is known about a release."""

    TABLE = "Table"  # within the table
    NEWER = "Newer"  # as the last row, but nothing about the prefix cache is taken for granted
    OLDER = "Older"  # as the first row, with the same caution
    UNREADABLE = "Unreadable"  # the weakest of all rows


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


_VERSION = re.compile(
    r"v?(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4})(?:\.\d{1,9}){0,2})?(?P<rest>[^0-9.].*|\.(?:dev|post).*)?",
    re.DOTALL | re.ASCII,
)
_UNRELEASED = re.compile(r"[-._]?(?:a|b|c|rc|alpha|beta|pre|preview|dev)\d*(?![a-z])")


_FIRST_EVER: Release = (0, 1, 1)


def parse_release(version: str) -> Release | None:
    """The release that a version is at least as new as: `0.31.1+cpu` is 0.31.1, `0.31.0rc2` is still before 0.31.0.

    A pre-release comes before its release and may lack anything that is new in it, so that it counts as the patch
    level below, or as the last conceivable one of the minor release below. None where it is not a version, or only what
    a build without tags calls itself, of whatever age (`0.1.dev1+gabc`).
    """
    match = _VERSION.fullmatch(version.strip()[:200])
    if match is None:
        return None
    release = (int(match[1]), int(match[2]), int(match[3] or 0))
    if _UNRELEASED.match((match["rest"] or "").lower()):
        return _before(release) if release >= _FIRST_EVER else None
    return release


def _before(release: Release) -> Release:
    major, minor, patch = release
    if patch:
        return (major, minor, patch - 1)
    if minor:
        return (major, minor - 1, 9999)
    return (max(major - 1, 0), 9999, 9999)


@lru_cache(maxsize=64)  # asked for every pod and adapter in each planning round
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
    return (
        f"{engine} {verb} {feature}{result}; {WHAT_TO_DO.get(feature, 'train the adapter without it')}; if it serves "
        f"it all the same, say so in the pod's annotation production-stack.vllm-project/lora-features: {feature}"
    )


def _facts(version: str, release: Release | None, known: Known, row: Release) -> Quirks:
    return Quirks(
        version=version,
        release=release,
        known=known,
        prefix_cache_key=at(PREFIX_CACHE_KEY, row),
        base_name_collision=at(BASE_NAME_COLLISION, row),
        error_shape=at(ERROR_SHAPE, row),
        load_failure_status=at(LOAD_FAILURE_STATUS, row),
        loads_locked_per_name=at(LOADS_LOCKED_PER_NAME, row),
        kv_gauges=at(KV_GAUGES, row),
        key_guards=at(KEY_GUARDS, row),
        open_adapters_route=at(OPEN_ADAPTERS_ROUTE, row),
        has_waiting_by_reason=at(WAITING_BY_REASON, row),
        features=MappingProxyType({name: at(rows, row) for name, rows in FEATURES.items()}),
    )


SEPARATOR = "--"
SUFFIX_HEX = 8
_HEX = re.compile(r"[0-9a-f]{8,}")
_VERSIONED = re.compile(r"(?P<name>.+)--[0-9a-f]{8}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class LoadName:
    """The name to give to the engine. `versioned` is true where routing has to map the public name to it."""

    engine_name: str
    versioned: bool


@dataclass(frozen=True, slots=True)
class StaleCache:
    """No name is safe there; `message` is a whole sentence without the pod's name."""

    reason: Reason
    message: str


def engine_name(public_name: str, fingerprint: str) -> str:
    """The name of its own that one version of an adapter gets: `name--<8 hex of the fingerprint>`.

    Raises:
        ValueError: the fingerprint is not lower-case hex of 8 digits at least.
    """
    if not _HEX.fullmatch(fingerprint):
        raise ValueError(
            f"fingerprint {fingerprint!r} of adapter {public_name!r}: expected 8 or more lower-case hex digits"
        )
    return f"{public_name}{SEPARATOR}{fingerprint[:SUFFIX_HEX]}"


def public_name(engine_name: str) -> str:
    """What requests ask for. Adapter names that end like a versioned name are refused elsewhere, so this is exact."""
    match = _VERSIONED.fullmatch(engine_name)
    return match["name"] if match else engine_name


def is_versioned(engine_name: str) -> bool:
    """Whether a name in /v1/models is the name of one version."""
    return _VERSIONED.fullmatch(engine_name) is not None


def load_name(
    *,
    name: str,
    fingerprint: str,
    quirks: Quirks,
    prefix_caching: bool,
    served: Mapping[str, str] | None,
    versioned_names: bool,
) -> LoadName | StaleCache:
    """The name for this version on one engine process, provided that every version has a path of its own.

    `served`: plain name -> fingerprint of what this engine process is known to have served under it; None where that is
    not known. `versioned_names`: whether a name of its own per version is allowed. The plain name is used where the
    release is safe, prefix caching is off, or the name stood for no other version there.
    """
    if not prefix_caching or quirks.prefix_cache_key is not PrefixCacheKey.NAME:
        return LoadName(name, versioned=False)
    if served is not None and served.get(name, fingerprint) == fingerprint:
        return LoadName(name, versioned=False)
    if versioned_names:
        own = engine_name(name, fingerprint)
        if served is None or served.get(own, fingerprint) == fingerprint:
            return LoadName(own, versioned=True)
    what = "may have served" if served is None else "has served"
    release = f"of vLLM {quirks.version[:40]} " if quirks.release else ""
    return StaleCache(
        Reason.STALE_PREFIX_CACHE,
        f"it {what} another version of {name!r} since it started, and the prefix cache {release}may answer from "
        "that one; restart the pod, allow versioned engine names, set --no-enable-prefix-caching, "
        "or use vLLM 0.31 or 0.32",
    )
