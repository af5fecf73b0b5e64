"""What every source is asked and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from lora_operator.artifacts import BaseModelShape, served_as, valid_adapter_name
from lora_operator.artifacts.found import FoundAdapter
from lora_operator.fetch.manifest import FetchManifest
from lora_operator.process.failure import Failure

DEFAULT_MAX_ADAPTERS = 100


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the Secret holds, by its keys; never part of a repr, a log line or an error. `hosts` are those that it may
    be sent to, `*.example.com` for all below, beside those of the store's own operator (the hub, Azure); None for any.
    """

    values: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    hosts: tuple[str, ...] | None = None

    def get(self, key: str) -> str | None:
        return dict(self.values).get(key)


@dataclass(frozen=True, slots=True)
class SourceRequest:
    """The part of a LoraAdapter that says what to look for. `base` and `base_model` are what adapters must fit."""

    type: str
    repository: str
    revision: str | None = None
    endpoint: str | None = None
    region: str | None = None
    pattern: str | None = None
    prefix: str | None = None
    adapters: tuple[str, ...] = ()
    max_adapters: int = DEFAULT_MAX_ADAPTERS
    base_model: str | None = None
    base: BaseModelShape | None = None
    base_aliases: tuple[str, ...] = ()  # further names under which pods serve the base model
    credentials: Credentials | None = None  # None: no Secret is named, what the surroundings give is used
    served_name: str | None = None  # what adapters are called in place of their names here, see `served_as`
    compares_names: bool = True  # whether an adapter's own word for its base model counts

    def check_name(self, name: str) -> None:
        """Raise InvalidAdapterName unless an adapter that is called `name` here can be served."""
        steps = name in (".", "..")  # of a path, however they are called
        valid_adapter_name(name if steps else served_as(self.served_name, name), base_model=self.base_model)

    @property
    def served_base_model(self) -> str | None:
        """The name that adapters' own word for their base model is compared with; None where that does not count."""
        return self.base_model if self.compares_names else None

    @property
    def compared_with(self) -> tuple[object, ...]:
        """All that adapters are compared with: where it changes, what was inspected is inspected again."""
        return self.served_base_model, self.base, self.base_aliases


@dataclass(frozen=True, slots=True)
class BrokenAdapter:
    """An adapter that was asked for and cannot be served: a stable `reason` in CamelCase, and a sentence for people."""

    name: str
    reason: str
    message: str
    signature: object = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a source holds of what was asked for, each tuple sorted by name.

    `broken` have no usable version. `stale` say what is wrong with an update of an adapter whose earlier, good version
    is still in `adapters`. `recheck_after_seconds` is set while something was changed so recently that it may still be
    under way: ask again then rather than at the next regular time. `hint`: what there is where nothing was found.
    """

    adapters: tuple[FoundAdapter, ...] = ()
    broken: tuple[BrokenAdapter, ...] = ()
    stale: tuple[BrokenAdapter, ...] = ()
    recheck_after_seconds: float | None = field(default=None, compare=False)
    hint: str = field(default="", compare=False)


class SourceError(Failure):
    """The source as a whole cannot answer."""


class Source(Protocol):
    """One type of source. An instance serves all resources of that type and keeps no state between calls."""

    async def resolve(self, request: SourceRequest, previous: Resolution | None) -> Resolution:
        """List, check and fingerprint what `request` asks for.

        `previous` is the last answer to the same request: what did not change since is not read again, and a good
        version is kept while its successor is incomplete or broken. Raises SourceError.
        """
        ...  # pragma: no cover

    async def locate(self, request: SourceRequest, found: FoundAdapter) -> Path | FetchManifest:
        """Where the files of exactly this version can be had now: a folder that the operator can read, or links that
        hold for a while. Asked again when they ran out. Raises SourceError (SourceChanged if the version is gone).
        """
        ...  # pragma: no cover
