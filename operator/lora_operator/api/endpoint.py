"""What one pod holds, as an object of its own: routers read it, and it goes with its pod."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from lora_operator.api.fields import Cut, Kubernetes, Model

KIND = "LoraEndpoint"
PLURAL = "loraendpoints"
SINGULAR = "loraendpoint"
SHORT_NAME = "le"

# Far beyond what an engine holds: a list that was cut would take adapters from routers. 1,000 entries take some 75 kB.
MAX_ADAPTERS = 10_000

Name = Annotated[str, Cut(253)]


class Scheme(StrEnum):
    """How the engine is spoken to."""

    HTTP = "http"
    HTTPS = "https"


class HeldAdapter(Model):
    """An adapter that the pod's engine has loaded and answers for."""

    name: Annotated[Name, Field(min_length=1)]
    """The adapter's name."""
    engine_name: Name | None = None
    """The name that the engine must be asked for, where it is not the adapter's name."""
    version: Annotated[str, Cut(64)] | None = None
    """Identifies the files' content, as `fingerprint` does in a LoraAdapter's status."""
    lora_adapter: Name | None = None
    """The LoraAdapter that it is of, where that is not called like the adapter."""


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
    adapters: Annotated[tuple[HeldAdapter, ...], Cut(MAX_ADAPTERS), Kubernetes(list_type="atomic")] = ()
    """The adapters that the pod holds, by name."""
