"""All source types by the name that adapterSource.type uses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from lora_operator.fetch.hosts import HostRules
from lora_operator.sources.azure import AzureSource
from lora_operator.sources.base import Source
from lora_operator.sources.http import HttpSource
from lora_operator.sources.huggingface import HuggingFaceSource
from lora_operator.sources.local import SETTLE_SECONDS, LocalSource
from lora_operator.sources.s3 import S3Source


def sources_by_type(
    roots: tuple[Path, ...] = (),
    *,
    closed: tuple[Path, ...] = (),
    settle_seconds: float = SETTLE_SECONDS,
    rules: HostRules | None = None,
) -> Mapping[str, Source]:
    """A source for each type. `roots`: the folders that local sources may read, any if empty; `closed`: those that they
    must not; `rules`: the hosts that the others may ask, any if None.
    """
    sources: dict[str, Source] = {
        "azure": AzureSource(rules=rules, settle_seconds=settle_seconds),
        "local": LocalSource(roots, closed=closed, settle_seconds=settle_seconds),
        "huggingface": HuggingFaceSource(rules=rules),
        "http": HttpSource(rules=rules),
        "s3": S3Source(rules=rules, settle_seconds=settle_seconds),
    }
    return MappingProxyType(sources)
