"""What a release of vLLM does differently from others, as far as a client can see it.

Recorded against running servers (0.12, 0.16, 0.28, 0.30 to 0.33) and read in the source of 0.8.5, 0.10.2,
0.18.0, 0.20.2 and 0.25.1. A release in between behaves like the newest of these that is not newer than it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

Version = tuple[int, ...]


class CacheKey(StrEnum):
    """What tells one adapter's cached prefixes from another's."""

    LOAD_ID = "load id"
    NAME = "name"
    NAME_AND_PATH = "name and path"


@dataclass(frozen=True, slots=True)
class Release:
    """The traits of one release. Every field is something that the contract suite or a roll-out can notice."""

    name: str
    flat_errors: bool  # {"object":"error","message",…} instead of {"error":{…}}
    masks_paths: bool  # paths in error messages become <path>
    prefixes_not_found: bool  # "Call to add_lora method failed: " before the message of a 404
    death_status: int  # of the request that kills the engine, with the error as its body even where it is 200
    death_type: str
    nan_logprobs_status: int  # of an answer whose log probabilities are not numbers
    has_load_inplace: bool
    inplace_is_sticky: bool  # what was loaded so is read again at every step
    death_is_named: bool  # whoever asks a dead engine is told so
    load_failure_status: int
    load_failure_type: str
    closes_after_load_failure: bool  # the connection, without saying so: the exception went through the whole server
    refuses_base_name: bool
    base_name_shadows: bool  # an adapter called like the base answers the base's requests
    refuses_changed_base: bool  # PiSSA and its kin, lora_bias, aLoRA, layer replication …
    refuses_no_tensors: bool
    ignores_bias_tensors: bool  # `lora_B.bias` is read and left unused; later its name is refused
    honours_patterns: bool  # rank_pattern, alpha_pattern
    cache_key: CacheKey
    locks_names: bool
    has_sagemaker_adapters: bool
    guarded_prefixes: tuple[str, ...]
    kv_gauges: tuple[str, ...]
    splits_running_and_waiting: bool
    counts_waiting_by_reason: bool
    lists_valid_aliases: bool
    rank_limits: tuple[int, ...]


def parse_version(release: str) -> Version:
    """0.32.0, v0.32.0 and 0.32.0+cpu are (0, 32, 0). Raises ValueError for anything that has no leading numbers."""
    parts = release.removeprefix("v").split("+")[0].split(".")
    return tuple(int("".join(ch for ch in part if ch.isdigit()) or "x") for part in parts[:3])


def release_traits(release: str) -> Release:
    """The traits of `release`. Raises ValueError where it is not a version number."""
    try:
        v = parse_version(release)
    except ValueError:
        raise ValueError(f"release {release!r} is not a version: give one such as 0.32.0") from None
    guards: tuple[str, ...] = ("/v1",)
    if v >= (0, 25):
        guards += ("/v2", "/inference")
    if v >= (0, 28):
        guards += ("/cohere",)
    gauges: tuple[str, ...] = ("gpu_cache_usage_perc",) if v < (0, 12) else ()
    if v >= (0, 10):
        gauges += ("kv_cache_usage_perc",)
    cache_key = CacheKey.LOAD_ID if v < (0, 12) else CacheKey.NAME if v < (0, 31) else CacheKey.NAME_AND_PATH
    ranks = (8, 16, 32, 64, 128, 256, 320, 512)
    return Release(
        name=release.removeprefix("v").split("+")[0],
        flat_errors=v < (0, 10),
        masks_paths=v >= (0, 28),
        prefixes_not_found=v < (0, 18),
        death_status=200 if (0, 16) <= v < (0, 18) else 500,
        death_type="InternalServerError" if v >= (0, 16) else "Internal Server Error",
        nan_logprobs_status=400 if v >= (0, 18) else 500,
        has_load_inplace=v >= (0, 16),
        inplace_is_sticky=v < (0, 33),
        death_is_named=v < (0, 33),
        load_failure_status=500 if v >= (0, 18) else 400,
        load_failure_type="InternalServerError" if v >= (0, 18) else "BadRequestError",
        closes_after_load_failure=(0, 18) <= v < (0, 25),
        refuses_base_name=v >= (0, 32),
        base_name_shadows=v >= (0, 10),
        refuses_changed_base=v >= (0, 32),
        refuses_no_tensors=v >= (0, 16),
        ignores_bias_tensors=v < (0, 12),
        honours_patterns=v >= (0, 32),
        cache_key=cache_key,
        locks_names=v >= (0, 10),
        has_sagemaker_adapters=v >= (0, 12),
        guarded_prefixes=guards,
        kv_gauges=gauges,
        splits_running_and_waiting=v < (0, 12),
        counts_waiting_by_reason=v >= (0, 20),
        lists_valid_aliases=v >= (0, 31),
        rank_limits=(1, *ranks) if v >= (0, 12) else ranks,
    )
