"""A pick of one pod for several adapters at once, and what each pod scores, for people who ask why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lora_operator.router.deciding import Refused
from lora_operator.router.entries import Entry
from lora_operator.router.picker import NONE, Picker
from lora_operator.router.prompt_blocks import NO_PROMPT, Prompt
from lora_operator.router.queries import find
from lora_operator.router.table import RoutingTable
from lora_scheduler.routing import Picked, RoutingRequest

REASON = "NotOnOnePod"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a request uses. `own` are the tenant's adapters, `shared` those that others use as well."""

    own: tuple[str, ...]
    shared: tuple[str, ...] = ()
    namespace: str | None = None
    avoid: frozenset[str] = NONE
    may_load: bool = False


@dataclass(frozen=True, slots=True)
class Together:
    """All of `entries` may be asked for at this pod, but those `missing`, which have to be loaded first."""

    entries: tuple[Entry, ...]
    picked: Picked

    @property
    def missing(self) -> frozenset[str]:
        return frozenset(self.picked.missing)


def found(table: RoutingTable, wanted: Wanted) -> tuple[Entry, ...]:
    """Raises UnknownAdapter, AmbiguousAdapter."""
    return tuple(find(table, name, wanted.namespace) for name in (*wanted.own, *wanted.shared))


def request_of(picker: Picker, entries: Sequence[Entry], wanted: Wanted, prompt: Prompt = NO_PROMPT) -> RoutingRequest:
    shared = frozenset(entry.key for entry in entries if entry.name in wanted.shared)
    return picker.request(entries, shared=shared, avoid=wanted.avoid, may_load=wanted.may_load, prompt=prompt)


def pick_several(picker: Picker, entries: tuple[Entry, ...], wanted: Wanted, policy: str) -> Together | Refused:
    """The pod for all of them. Without `may_load` one that holds all; with it, one that has room for the rest."""
    answer = picker.choose(request_of(picker, entries, wanted), policy)
    if isinstance(answer, Picked):
        return Together(entries, answer)
    names = ", ".join(entry.name for entry in entries)
    absent = [f"{entry.name}: {entry.message or entry.reason}" for entry in entries if not entry.endpoints]
    why = f"; no pod answers for {'; '.join(absent)}" if absent else ""
    room = " or has room for what it lacks" if wanted.may_load else ""
    text = f"no pod that may be the answer holds all of {names}{room}{why}"
    return Refused("not-loaded", REASON, text, entries[0])
