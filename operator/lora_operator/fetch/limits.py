"""How much a process may fetch at a time, how long it waits, and what is too much."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Shared by all fetches of a process. Sizes in bytes, times in seconds."""

    connections: int = 16  # requests at a time, over all fetches
    block_bytes: int = 512 << 10  # what is held in memory per request
    bytes_per_second: float | None = None  # over all fetches
    connect_seconds: float = 10.0
    stall_seconds: float = 60.0  # for an answer to begin, and for each block of it to come
    attempts: int = 6  # failures in a row, without progress between them
    # what is progress: a server that sends a byte and hangs up gets nowhere
    progress_bytes: int = 64 << 10
    backoff_seconds: float = 0.5  # before the second attempt; doubles from there
    backoff_max_seconds: float = 30.0  # a server that asks for more has its wish passed on to the caller
    redirects: int = 5
    file_bytes: int = 64 << 30  # larger files are refused
    archive_bytes: int = 64 << 30
    unpacked_bytes: int = 256 << 30  # of all that has to be unpacked to get at the wanted members
    unpacked_ratio: int = 200  # unpacked ÷ packed bytes, beyond the first 64 MiB
    members: int = 100_000
    renew_before_seconds: float = 30.0  # a link that runs out sooner than this is renewed first
    checks_free_space: bool = True
