"""What may stand in the path and the query of a request; anything else is refused by name."""

from __future__ import annotations

from typing import Annotated, TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from lora_operator.router.pages import DEFAULT_LIMIT
from lora_operator.router.problems import Problem
from lora_operator.router.wire import AdapterName, BaseModelName, Limit, Namespace, Token


class Query(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PodsQuestion(Query):
    namespace: Annotated[Namespace | None, Field(description="of the adapter; needed where several have the name")] = (
        None
    )


class Selecting(PodsQuestion):
    base_model: Annotated[
        BaseModelName | None, Field(alias="baseModel", description="only adapters of this base model")
    ] = None


class ListQuestion(Selecting):
    include_unloaded: Annotated[
        bool, Field(alias="includeUnloaded", description="also adapters that no pod answers for now")
    ] = False
    limit: Annotated[Limit, Field(description="most adapters in one answer")] = DEFAULT_LIMIT
    token: Annotated[Token, Field(alias="continue", description="from an earlier answer: what comes after it")] = ""


class WatchQuestion(Selecting):
    last_event_id: Annotated[
        Token | None, Field(alias="lastEventId", description="for clients that cannot send the header Last-Event-ID")
    ] = None


class FleetQuestion(Query):
    since: Annotated[Token | None, Field(description="version of an earlier answer: only what changed since")] = None


Question = TypeVar("Question", bound=Query)
_NAME: TypeAdapter[str] = TypeAdapter(AdapterName)


def read_query(model: type[Question], request: web.Request) -> Question:
    """The query as the model has it. Raises Problem for unknown, repeated and impossible parameters."""
    query = request.query
    given = dict(query)
    if len(given) < len(query):
        twice = sorted({name for name in given if len(query.getall(name)) > 1})
        raise Problem("bad-request", f"query parameter {', '.join(twice)} is given more than once; give it once")
    try:
        return model.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])[:100]
        known = ", ".join(sorted(item.alias or name for name, item in model.model_fields.items()))
        detail = f"does not exist; there are: {known}" if first["type"] == "extra_forbidden" else first["msg"]
        raise Problem("bad-request", f"query parameter {where}: {detail}") from error


def read_path_name(request: web.Request) -> str:
    """The adapter's name in the path. Raises Problem."""
    try:
        return _NAME.validate_python(request.match_info["name"])
    except ValidationError as error:
        message = error.errors(include_url=False, include_input=False)[0]["msg"]
        raise Problem("bad-request", f"the adapter's name in the path: {message}") from error
