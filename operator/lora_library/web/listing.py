"""Lists of adapters: what may be asked for, and with what the operator says of each."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from lora_library.catalogue import reading
from lora_library.cluster.resources import STATES, Shown
from lora_library.model import ACTIVE, QUARANTINED, REJECTED, Lora, Principal
from lora_library.problems import Problem
from lora_library.web import answers
from lora_library.web.context import Library

MOST_TAGS = 32
MOST_COMPARED = 1000  # adapters of which the operator is asked, to choose by its state


class Sort(StrEnum):
    CREATED_AT = "created_at"
    NAME = "name"
    SIZE = "size"
    USAGE = "usage"


class Order(StrEnum):
    ASC = "asc"
    DESC = "desc"


State = StrEnum("State", {each.upper(): each for each in (*STATES, QUARANTINED, REJECTED)})  # type: ignore[misc]


class ListQuery(BaseModel):
    """One model, and not a parameter of the handler each: they are read and checked at once."""

    model_config = ConfigDict(use_attribute_docstrings=True)
    search: str = Field("", max_length=200)
    tags: list[str] = Field(default_factory=list, max_length=MOST_TAGS)
    """All of them."""
    base_model: str = Field("", max_length=253)
    state: State | None = None
    sort: Sort = Sort.CREATED_AT
    """usage: by the last use that is known."""
    order: Order = Order.DESC
    limit: int = Field(50, ge=1, le=reading.MOST)
    offset: int = Field(0, ge=0, le=10_000_000)
    deleted: bool = False
    mine: bool = False


async def page(library: Library, principal: Principal, asked: ListQuery) -> answers.Page:
    """Raises Problem."""
    if any("\0" in text for text in (asked.search, asked.base_model, *asked.tags)):
        raise Problem("INVALID_REQUEST", "a NUL character is in nobody's text")
    tags = tuple(tag for each in asked.tags for tag in each.split(",") if tag)[:MOST_TAGS]
    wanted = reading.Listing(
        asked.search, tags, asked.base_model, asked.sort.value, asked.order is Order.DESC, asked.limit, asked.offset,
        asked.deleted, asked.mine, _stored(asked.state),
    )  # fmt: skip
    if asked.state is not None and wanted.state == ACTIVE and not asked.deleted:
        found, total = await _in_state(library, principal, wanted, asked.state.value)
    else:
        loras, total = await reading.find(library.database, principal, wanted)
        found = await _shown(library, loras)
    summaries = [answers.summary(lora, shown, own=lora.owner == principal.subject) for lora, shown in found]
    return answers.Page(loras=summaries, total=total, limit=asked.limit, offset=asked.offset)


def _stored(state: State | None) -> str:
    """What the database says of adapters in that state; what the operator says of them it does not know."""
    return "" if state is None else state.value if state.value in (QUARANTINED, REJECTED) else ACTIVE


async def _shown(library: Library, loras: list[Lora]) -> list[tuple[Lora, Shown]]:
    if library.adapters is None:
        return [(each, Shown()) for each in loras]
    return list(zip(loras, await asyncio.gather(*map(library.shown, loras)), strict=True))


async def _in_state(
    library: Library, principal: Principal, wanted: reading.Listing, state: str
) -> tuple[list[tuple[Lora, Shown]], int]:
    every = replace(wanted, limit=MOST_COMPARED, offset=0)
    loras, total = await reading.find(library.database, principal, every)
    if total > MOST_COMPARED:
        raise Problem(
            "INVALID_REQUEST",
            f"{total} adapters match, and {MOST_COMPARED} can be chosen by the operator's state: look for fewer",
        )
    found = [each for each in await _shown(library, loras) if each[1].state == state]
    return found[wanted.offset : wanted.offset + wanted.limit], len(found)
