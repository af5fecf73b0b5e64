"""Adapters that could not even be listed, merged into what was found of the others. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from lora_operator.sources.base import BrokenAdapter, Resolution, SourceRequest
from lora_operator.sources.remote import RETRY_SECONDS
from lora_operator.sources.selection import passes

# Reasons that follow from the names in the list alone.
_BY_NAME = frozenset({"NotFound", "InvalidName", "DuplicateName"})


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong with the adapter `name` as a whole; `passing` if it may be gone without anybody's doing."""

    name: str
    reason: str
    message: str
    passing: bool = False


@dataclass(frozen=True, slots=True)
class Marked(Resolution):
    """A resolution that notes what the store was like, so that a second look at it can be cheap."""

    mark: object = field(default=None, compare=False, repr=False)


def merged(
    resolution: Resolution,
    troubles: Iterable[Trouble],
    request: SourceRequest,
    previous: Resolution | None,
    mark: object,
) -> Marked:
    """`resolution` with the troubles of those adapters that the request selects.

    An adapter with a trouble keeps its earlier good version, if it has one.
    """
    chosen = {
        trouble.name: trouble
        for trouble in troubles
        if passes(trouble.name, request.pattern, request.prefix, request.adapters)
    }
    before = {found.name: found for found in previous.adapters} if previous is not None else {}
    adapters = {found.name: found for found in resolution.adapters}
    adapters |= {name: before[name] for name in chosen if name in before}
    entries = [BrokenAdapter(each.name, each.reason, each.message) for each in chosen.values()]
    broken = [item for item in resolution.broken if item.name not in chosen]
    stale = [item for item in resolution.stale if item.name not in chosen]
    again_in = resolution.recheck_after_seconds
    if any(each.passing for each in chosen.values()):
        again_in = min(again_in or RETRY_SECONDS, RETRY_SECONDS)
    return Marked(
        adapters=tuple(adapters[name] for name in sorted(adapters)),
        broken=_by_name([*broken, *(item for item in entries if item.name not in adapters)]),
        stale=_by_name([*stale, *(item for item in entries if item.name in adapters)]),
        recheck_after_seconds=again_in,
        mark=mark,
    )


def unchanged(previous: Resolution | None, mark: object) -> Resolution | None:
    """`previous`, if it was found under the same mark and another look at the same files would say the same."""
    if not isinstance(previous, Marked) or previous.mark != mark or previous.recheck_after_seconds is not None:
        return None
    # what has no note was not read: whoever refused it may give access in the meantime
    settled = (item.signature is not None or item.reason in _BY_NAME for item in (*previous.broken, *previous.stale))
    return previous if all(settled) else None


def _by_name(items: Iterable[BrokenAdapter]) -> tuple[BrokenAdapter, ...]:
    return tuple(sorted(items, key=lambda item: item.name))
