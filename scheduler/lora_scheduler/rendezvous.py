"""Highest-random-weight hashing: the tie-break that gives every adapter its own, lasting order of pods."""

from __future__ import annotations

from hashlib import blake2b


def weight(adapter_key: str, pod_key: str) -> int:
    """Larger is preferred. Python's own hash() differs between processes and would make plans differ too."""
    return int.from_bytes(blake2b(f"{adapter_key}\0{pod_key}".encode(), digest_size=8).digest())
