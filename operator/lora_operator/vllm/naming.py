"""Under which name a version of an adapter may be loaded, so that no answer comes from another one's cache. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from lora_operator.vllm.quirks import PrefixCacheKey, Quirks
from lora_scheduler.model import Reason

SEPARATOR = "--"
SUFFIX_HEX = 8
_HEX = re.compile(r"[0-9a-f]{8,}")
_VERSIONED = re.compile(r"(?P<name>.+)--[0-9a-f]{8}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class LoadName:
    """The name to give to the engine. `versioned` is true where routing has to map the public name to it."""

    name: str
    versioned: bool


@dataclass(frozen=True, slots=True)
class NameRefusal:
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
) -> LoadName | NameRefusal:
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
    return NameRefusal(
        Reason.STALE_PREFIX_CACHE,
        f"it {what} another version of {name!r} since it started, and the prefix cache {release}may answer from "
        "that one; restart the pod, allow versioned engine names, set --no-enable-prefix-caching, or use vLLM 0.31 or 0.32",
    )
