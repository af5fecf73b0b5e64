"""What one pod holds, as an object of its own: routers read it, and it goes with its pod."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from lora_operator.api.fields import Cut, Kubernetes, Model

KIND = "LoraEndpoint"
SINGULAR = "loraendpoint"
SHORT_NAME = "le"

# Far beyond what an engine holds: what was cut would be taken from routers. 1,000 entries take some 45 kB.
MAX_ADAPTERS = 10_000

# The API server's work for a write grows with the number of values: maps of strings cost it a quarter of what a list of
# objects with the same content does (1,000 adapters: 37 ms and 129 ms of a processor that did other things as well).
Names = Annotated[dict[str, Annotated[str, Cut(512)]], Field(max_length=MAX_ADAPTERS), Kubernetes(map_type="atomic")]


class Scheme(StrEnum):
    """How the engine is spoken to."""

    HTTP = "http"
    HTTPS = "https"


class LoraEndpoint(Model):
    """What one vLLM pod holds: written by the operator when that changes, called like its pod and owned by it.

    An adapter is in here once the pod's engine lists it, and no longer some time before it is unloaded.
    """

    scheme: Scheme = Scheme.HTTP
    """How the engine is spoken to: http or https."""
    address: Annotated[str, Cut(64)] | None = None
    """Where the pod's engine answers, as ip:port."""
    container: Annotated[str, Cut(64)] | None = None
    """The first characters of the id of the engine's container: one that was started since has forgotten its
    adapters."""
    base_models: Annotated[tuple[Annotated[str, Cut(512)], ...], Cut(64), Kubernetes(list_type="atomic")] = ()
    """The names of the base model that the engine serves."""
    adapters: Names = Field(default_factory=dict)
    """The adapters that the pod holds, by name; each with its LoraAdapter and its version (as `fingerprint` in status),
    such as assistants/5d41402abc4b2a76."""
    engine_names: Names = Field(default_factory=dict)
    """By adapter, the name that the engine must be asked for, where it is not the adapter's name."""
