"""The OpenAPI document, made of the same models that requests are checked against."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema

from lora_operator import __version__
from lora_operator.router.parameters import FleetQuestion, ListQuestion, PodsQuestion, Query, WatchQuestion
from lora_operator.router.problems import MEDIA_TYPE, TITLES, TYPE_PREFIX
from lora_operator.router.ui.wire import FleetAnswer
from lora_operator.router.wire import (
    Adapter,
    AdapterList,
    AdapterName,
    AdapterPods,
    ChangeEvent,
    Heartbeat,
    LoadingAnswer,
    MatchAnswer,
    MatchRequest,
    PickAnswer,
    PickRequest,
    ProblemDocument,
    Readiness,
    Reset,
    SelectAnswer,
    SelectRequest,
    Snapshot,
)

MODELS: tuple[type[BaseModel], ...] = (
    Adapter, AdapterList, AdapterPods, ChangeEvent, FleetAnswer, Heartbeat, LoadingAnswer, MatchAnswer,
    MatchRequest, PickAnswer, PickRequest, ProblemDocument, Readiness, Reset, SelectAnswer, SelectRequest, Snapshot,
)  # fmt: skip
REF = "#/components/schemas/"
Json = dict[str, Any]


def document() -> Json:
    """OpenAPI 3.1."""
    _, schemas = models_json_schema([(model, "validation") for model in MODELS], ref_template=REF + "{model}")
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "lora-operator router API",
            "version": __version__,
            "description": "Which vLLM pods answer for which LoRA adapter, as a list, as a stream of changes, and as a "
            "choice for one request. Read-only.",
        },
        "paths": _paths(),
        "components": {"schemas": schemas["$defs"]},
    }


def _paths() -> Json:
    name = {
        "name": "name", "in": "path", "required": True, "schema": TypeAdapter(AdapterName).json_schema(),
        "description": "the adapter's public name",
    }  # fmt: skip
    stream = {
        "description": "Events `snapshot` (Snapshot, in pages), `change` (ChangeEvent), `reset` (Reset, then a new "
        "snapshot) and `heartbeat` (Heartbeat). The last page of a snapshot and every change have an id.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
    listed = _operation(
        "listAvailableAdapters", "The adapters that can be asked for", AdapterList, _query(ListQuestion), (400, 503)
    )
    listed["parameters"].append(_header("If-None-Match", "an ETag of an earlier answer"))
    listed["responses"]["304"] = {"description": "Nothing has changed since that ETag"}
    watch = _operation("watch", "A snapshot of the table, then every change", None, _query(WatchQuestion), (400, 503))
    watch["parameters"].append(_header("Last-Event-ID", "the id of the last event that was received"))
    watch["responses"]["200"] = stream
    pods = _operation(
        "getPodsForAdapter", "The pods that answer for an adapter", AdapterPods, [name, *_query(PodsQuestion)],
        (400, 404, 503),
    )  # fmt: skip
    chosen = _operation("pick", "An endpoint for one request", PickAnswer, [], (400, 404, 408, 413, 503))
    chosen["responses"]["202"] = _answer("It is being loaded; come again after Retry-After", LoadingAnswer)
    chosen["requestBody"] = {"required": True, "content": {"application/json": {"schema": _ref(PickRequest)}}}
    matched = _operation("match", "The job that a worker should take", MatchAnswer, [], (400, 404, 408, 413, 503))
    matched["requestBody"] = {"required": True, "content": {"application/json": {"schema": _ref(MatchRequest)}}}
    selected = _operation("select", "The adapter that a text is for", SelectAnswer, [], (400, 408, 413, 503))
    selected["requestBody"] = {"required": True, "content": {"application/json": {"schema": _ref(SelectRequest)}}}
    file = {
        "name": "file", "in": "path", "required": True, "schema": {"type": "string"},
        "description": "a file of the page; empty for the page itself",
    }  # fmt: skip
    page = _plain("webView", "The web view, which shows what is where", "text/html")
    page["parameters"] = [file]
    page["responses"]["404"] = _answer("The page has no such file", ProblemDocument, MEDIA_TYPE)
    to_page: Json = {"operationId": "toWebView", "summary": "Leads to the web view"}
    to_page["responses"] = {"308": {"description": "To /ui/"}}
    fleet = _operation(
        "fleet", "Pods and LoraAdapters, for people to look at", FleetAnswer, _query(FleetQuestion), (400, 503)
    )
    ready = _operation("readyz", "Whether the table is there, and how old it is", Readiness, [], ())
    ready["responses"]["503"] = _answer("Not yet", Readiness)
    return {
        "/v1/adapters": {"get": listed},
        "/v1/adapters/{name}/pods": {"get": pods},
        "/v1/watch": {"get": watch},
        "/v1/pick": {"post": chosen},
        "/v1/match": {"post": matched},
        "/v1/select": {"post": selected},
        "/v1/fleet": {"get": fleet},
        "/ui": {"get": to_page},
        "/ui/{file}": {"get": page},
        "/openapi.json": {"get": _plain("openapi", "This document", "application/json")},
        "/healthz": {"get": _plain("healthz", "Whether the process lives", "text/plain")},
        "/readyz": {"get": ready},
        "/metrics": {"get": _plain("metrics", "Prometheus metrics", "text/plain")},
    }


def _operation(
    identifier: str, summary: str, model: type[BaseModel] | None, parameters: list[Json], problems: tuple[int, ...]
) -> Json:
    responses: Json = {} if model is None else {"200": _answer("As asked", model)}
    for status in problems:
        kinds = ", ".join(TYPE_PREFIX + kind for kind, (of, _) in TITLES.items() if of == status)
        responses[str(status)] = _answer(f"One of {kinds}", ProblemDocument, MEDIA_TYPE)
    return {"operationId": identifier, "summary": summary, "parameters": parameters, "responses": responses}


def _plain(identifier: str, summary: str, media_type: str) -> Json:
    answer = {"description": "As asked", "content": {media_type: {"schema": {"type": "string"}}}}
    if media_type == "application/json":
        answer["content"] = {media_type: {"schema": {"type": "object"}}}
    return {"operationId": identifier, "summary": summary, "responses": {"200": answer}}


def _answer(description: str, model: type[BaseModel], media_type: str = "application/json") -> Json:
    return {"description": description, "content": {media_type: {"schema": _ref(model)}}}


def _ref(model: type[BaseModel]) -> Json:
    return {"$ref": REF + model.__name__}


def _query(model: type[Query]) -> list[Json]:
    properties = model.model_json_schema()["properties"]
    return [
        {
            "name": name, "in": "query", "required": False, "description": schema.pop("description", ""),
            "schema": schema,
        }
        for name, schema in properties.items()
    ]  # fmt: skip


def _header(name: str, description: str) -> Json:
    return {"name": name, "in": "header", "required": False, "description": description, "schema": {"type": "string"}}
