"""The lines of the routing table. Frozen: whoever got one keeps what was true at that version."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Why(StrEnum):
    """Why a pod that holds an adapter takes no requests for it."""

    NOT_READY = "NotReady"
    TERMINATING = "Terminating"
    RESTARTED = "Restarted"  # and nobody has said since what it holds


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A pod that answers for an adapter at `address` (ip:port) if it is asked for `engine_name`. `version` is that of
    its files there, empty where nobody says."""

    pod: str
    address: str
    engine_name: str
    version: str = ""


@dataclass(frozen=True, slots=True)
class Withheld:
    """A pod that holds an adapter and must not be sent requests now."""

    pod: str
    state: Why


@dataclass(frozen=True, slots=True)
class About:
    """What requests an adapter is for, as its LoraAdapter says. Keywords are as written, fit for use or not."""

    keywords: tuple[str, ...] = ()
    description: str = ""
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """One adapter by its public name. `reason` and `message` say why there are no endpoints; empty if there are."""

    namespace: str
    name: str
    base_model: str
    resource: str  # the LoraAdapter's name
    endpoints: tuple[Endpoint, ...] = ()
    withheld: tuple[Withheld, ...] = ()
    reason: str = ""
    message: str = ""
    on_demand: bool = False  # it is loaded when somebody asks for it
    given_up: bool = False  # the operator has a reason not to load it, which waiting alone does not mend
    about: About | None = None  # None: nobody has said what it is for
    owner: str = ""  # who may ask for it, where callers are known
    falls_back: bool = False  # where no pod answers for it, its base model may

    @property
    def key(self) -> tuple[str, str]:
        """(namespace, name), the order of all lists."""
        return self.namespace, self.name
