"""Which version goes first when room is needed: one policy per file, each pure.

`base` says what a policy is asked and what it may remember between two questions.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from lora_operator.cache.policies.base import EvictionPolicy, Memory
from lora_operator.cache.policies.gdsf import Gdsf
from lora_operator.cache.policies.lru import Lru
from lora_operator.cache.policies.sieve import Sieve

POLICIES: Mapping[str, EvictionPolicy] = MappingProxyType({policy.name: policy for policy in (Lru(), Sieve(), Gdsf())})

__all__ = ["POLICIES", "EvictionPolicy", "Gdsf", "Lru", "Memory", "Sieve"]
