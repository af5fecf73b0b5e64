"""Where adapters come from: one module per source type, each of which lists, inspects and fingerprints adapters.

A source reads and reports; it decides nothing about pods and writes nothing.
"""

from lora_operator.artifacts import AdapterFile
from lora_operator.artifacts.found import FoundAdapter
from lora_operator.sources.base import BrokenAdapter, Credentials, Resolution, Source, SourceError, SourceRequest
from lora_operator.sources.local import LocalSource
from lora_operator.sources.registry import sources_by_type
from lora_operator.sources.selection import select

__all__ = [
    "AdapterFile",
    "BrokenAdapter",
    "Credentials",
    "FoundAdapter",
    "LocalSource",
    "Resolution",
    "Source",
    "SourceError",
    "SourceRequest",
    "select",
    "sources_by_type",
]
