"""Expectations that changed from one release to another, as data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

T = TypeVar("T")
Release = tuple[int, ...]


def release_of(version: str) -> Release:
    """0.32.0+cpu is (0, 32, 0)."""
    return tuple(int(part) for part in version.split("+")[0].split("."))


class Since(Generic[T]):
    """A value for each release: that of the newest listed one that is not newer."""

    def __init__(self, rows: Mapping[Release, T]) -> None:
        self._rows = sorted(rows.items(), key=lambda row: row[0], reverse=True)

    @property
    def changes(self) -> bool:
        """Whether there is more than one value."""
        return len(self._rows) > 1

    def __getitem__(self, release: Release) -> T:
        for since, value in self._rows:
            if release >= since:
                return value
        raise KeyError(f"nothing is recorded for {release}")


def always(value: T) -> Since[T]:
    """The same on every release."""
    return Since({(0,): value})


LOAD_FAILURE = Since({(0,): (400, "BadRequestError"), (0, 18): (500, "InternalServerError")})
FLAT_ERRORS = Since({(0,): True, (0, 10): False})
LOAD_INPLACE = Since({(0,): False, (0, 16): True})
INPLACE_IS_STICKY = Since({(0,): True, (0, 33): False})
BASE_NAME = Since({(0,): "unreachable", (0, 10): "takes over", (0, 32): "refused"})
LOADS_LOCKED = Since({(0,): False, (0, 10): True})
MASKS_PATHS = Since({(0,): False, (0, 28): True})
NOT_FOUND_PREFIX = Since({(0,): "Call to add_lora method failed: ", (0, 18): ""})
# How the request that kills the engine is answered: 0.16 says 200, with the error as its body.
KILLING_REQUEST = Since(
    {(0,): (500, "Internal Server Error"), (0, 16): (200, "InternalServerError"), (0, 18): (500, "InternalServerError")}
)
DEATH_IS_NAMED = Since({(0,): True, (0, 33): False})  # "EngineCore encountered an issue" to whoever asked
CLOSES_AFTER_LOAD_FAILURE = Since({(0,): False, (0, 18): True, (0, 25): False})
NAN_LOGPROBS = Since({(0,): 500, (0, 18): 400})
OPEN_ADAPTERS = Since({(0,): False, (0, 12): True})
GUARDED = Since(
    {
        (0,): {"/v1/x"},
        (0, 25): {"/v1/x", "/v2/x", "/inference/x"},
        (0, 28): {"/v1/x", "/v2/x", "/inference/x", "/cohere/x"},
    }
)
KV_GAUGES = Since(
    {
        (0,): {"gpu_cache_usage_perc"},
        (0, 10): {"gpu_cache_usage_perc", "kv_cache_usage_perc"},
        (0, 12): {"kv_cache_usage_perc"},
    }
)
WAITING_BY_REASON = Since({(0,): False, (0, 20): True})
SETS_IDENTICAL = Since({(0,): False, (0, 12): True})
RANK_ONE = Since({(0,): False, (0, 12): True})
# What an answer is after the same name was unloaded and loaded again, from a new path and from the same path.
NEW_PATH = Since({(0,): "right", (0, 12): "stale", (0, 31): "right"})
SAME_PATH = Since({(0,): "right", (0, 12): "stale"})
