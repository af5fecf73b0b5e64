"""The OpenAPI document hangs together, and every answer is as it says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from lora_operator.router import wire
from lora_operator.router.openapi import document
from tests.router.fleet import a_fleet
from tests.router.serving import served


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if "$ref" in part:
            yield part["$ref"]
        for value in part.values():
            yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


async def test_the_document_is_served_and_whole() -> None:
    async with served(a_fleet()) as api:
        status, body, _ = await api.get("/openapi.json")
        assert (status, body) == (200, document())
    assert body["openapi"] == "3.1.0" and body["info"]["title"] and body["info"]["version"]
    schemas = body["components"]["schemas"]
    assert {ref.removeprefix("#/components/schemas/") for ref in references(body)} <= schemas.keys()
    operations = [operation for path in body["paths"].values() for operation in path.values()]
    identifiers = [operation["operationId"] for operation in operations]
    assert len(set(identifiers)) == len(identifiers)
    for operation in operations:
        assert all(re.fullmatch(r"\d{3}", status) for status in operation["responses"])
        assert all(answer["description"] for answer in operation["responses"].values())
        for parameter in operation.get("parameters", ()):
            assert parameter["in"] in ("query", "path", "header") and parameter["description"]
            assert parameter["required"] == (parameter["in"] == "path")
    for path, of_path in body["paths"].items():
        named = {p["name"] for o in of_path.values() for p in o.get("parameters", ()) if p["in"] == "path"}
        assert named == set(re.findall(r"{(\w+)}", path))


async def test_the_document_names_every_path_and_parameter_that_there_is_and_no_other() -> None:
    async with served(a_fleet()) as api:
        paths = document()["paths"]
        routes = {r.resource.canonical for r in api.api.application().router.routes() if r.resource is not None}
        assert set(paths) == routes - {"/{tail}"}
        for path, of_path in paths.items():
            for operation in of_path.values():
                for parameter in operation.get("parameters", ()):
                    if parameter["in"] == "query":
                        _, answer, _ = await api.get(f"{path.format(name='sql')}?{parameter['name']}={'A' * 2000}")
                        assert answer["detail"].startswith(f"query parameter {parameter['name']}: ")
                        assert "does not exist" not in answer["detail"]


async def test_answers_have_the_schema_that_the_document_gives_them() -> None:
    asks: tuple[tuple[str, str, Any], ...] = (
        ("get", "/v1/adapters", None),
        ("get", "/v1/adapters?limit=1", None),
        ("get", "/v1/adapters?limit=0", None),
        ("get", "/v1/adapters/sql/pods", None),
        ("get", "/v1/adapters/nobody/pods", None),
        ("post", "/v1/pick", {"adapter": "chat"}),
        ("post", "/v1/pick", {"adapter": "nobody"}),
        ("post", "/v1/pick", {"adapter": "chat", "avoid": ["vllm-0"]}),
        ("get", "/readyz", None),
    )
    paths = document()["paths"]
    async with served(a_fleet()) as api:
        for method, url, body in asks:
            path = re.sub(r"(/v1/adapters)/\w+/pods", r"\1/{name}/pods", url.partition("?")[0])
            async with api.session.request(method, api.url + url, json=body) as answer:
                documented = paths[path][method]["responses"][str(answer.status)]["content"][answer.content_type]
                name = documented["schema"]["$ref"].rpartition("/")[2]
                model: type[BaseModel] = getattr(wire, name)
                model.model_validate_json(await answer.read())
