"""All source types by the name that adapterSource.type uses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from lora_operator.sources.base import Source
from lora_operator.sources.local import SETTLE_SECONDS, LocalSource
from lora_operator.sources.not_yet import NotYetSource

NOT_YET = ("huggingface", "s3", "azure", "http")


def sources_by_type(roots: tuple[Path, ...] = (), *, settle_seconds: float = SETTLE_SECONDS) -> Mapping[str, Source]:
    """A source for each type. `roots`: the folders that local sources may read, any if empty."""
    local: Source = LocalSource(roots, settle_seconds=settle_seconds)
    return MappingProxyType({"local": local} | {name: NotYetSource(name) for name in NOT_YET})
