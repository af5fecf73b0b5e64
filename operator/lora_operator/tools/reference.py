"""Writes docs/crd-reference.md from the definition: `python -m lora_operator.tools.reference PATH` (`make crds`)."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lora_operator.api import endpoint
from lora_operator.api import v1alpha1 as api
from lora_operator.api.crd import definition
from lora_operator.api.well_known import ENDPOINTS
from lora_operator.tools.generated import write_or_check

Schema = Mapping[str, Any]

HEAD = f"""\
# LoraAdapter and LoraEndpoint: reference

Written by `make crds` from the models in `operator/lora_operator/api`: change those, not this file.

`apiVersion: {api.API_VERSION}`, `kind: {api.KIND}`, namespaced; `kubectl get {api.SHORT_NAME}`. Subresources: `status`,
and `scale` (`kubectl scale la/NAME --replicas=N` sets `spec.deploymentConfig.replicas`). The API server checks types,
bounds and the rules below each table, and refuses what breaks one with the words that are given here. Bold fields are
required.

What the words mean: [concepts](concepts.md). Sources and their Secrets: [sources](sources.md). Annotations that people
set on a LoraAdapter: `production-stack.vllm-project/refresh` (any new value: look at the source now), `…/pinned` (names
of adapters whose files stay, `kubectl lora pin` writes it), `…/keywords` ([selection](selection.md)).
"""
TABLE = "| field | type | default | bounds | meaning |\n|---|---|---|---|---|"
COMMON = ("apiVersion", "kind", "metadata")
COLUMNS_HEAD = "## Columns of `kubectl get {0}`\n"
ENDPOINT = f"""\
## LoraEndpoint

`apiVersion: {api.API_VERSION}`, `kind: {endpoint.KIND}`, namespaced; `kubectl get {endpoint.SHORT_NAME}`. The operator
writes one for each pod that holds adapters, called like the pod and owned by it, so that it goes with the pod; nobody
else has to write any, and none needs a backup. [How to read them](router-api.md#routers-that-read-kubernetes-objects).
"""


def page() -> str:
    """The whole page."""
    version = definition()["spec"]["versions"][0]
    properties = version["schema"]["openAPIV3Schema"]["properties"]
    parts = [HEAD]
    for name in ("spec", "status"):
        parts += _sections(name, properties[name])
    parts += _columns(api.SHORT_NAME, version)
    version = definition(ENDPOINTS)["spec"]["versions"][0]
    schema = version["schema"]["openAPIV3Schema"]
    fields = {name: field for name, field in schema["properties"].items() if name not in COMMON}
    parts += ["", ENDPOINT, *_sections(endpoint.KIND, {**schema, "properties": fields}, title=False)]
    parts += _columns(endpoint.SHORT_NAME, version)
    return "\n".join(parts).rstrip() + "\n"


def _columns(name: str, version: Schema) -> Iterator[str]:
    yield COLUMNS_HEAD.format(name) + "\n| column | from |\n|---|---|"
    for column in version["additionalPrinterColumns"]:
        wide = ", with `-o wide`" if column.get("priority") else ""
        yield f"| {column['name']} | `{column['jsonPath']}`{wide} |"


def _sections(path: str, schema: Schema, *, title: bool = True) -> Iterator[str]:
    """One for each object, the parts of it after it."""
    hashes = "##" if "." not in path else "###"
    yield (f"{hashes} {path}\n" if title else "") + f"{schema.get('description', '')}\n"
    yield TABLE
    required = schema.get("required", ())
    for name, field in schema["properties"].items():
        shown = f"**`{name}`**" if name in required else f"`{name}`"
        inner = _inner(field)
        if inner is not None:
            shown = f"[{shown}](#{_anchor(f'{path}.{name}')})"
        cells = (shown, _type(field), _default(field), _bounds(field), field.get("description", ""))
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    rules = [*_rules(schema)]
    yield ("\nRules:\n" + "\n".join(rules) + "\n") if rules else ""
    for name, field in schema["properties"].items():
        inner = _inner(field)
        if inner is not None:
            yield from _sections(f"{path}.{name}", {"description": field.get("description", ""), **inner})


def _inner(field: Schema) -> Schema | None:
    """The object that a field is, or a list of."""
    item = field.get("items", field)
    return item if "properties" in item else None


def _anchor(path: str) -> str:
    return path.replace(".", "").lower()


def _type(field: Schema) -> str:
    if field.get("x-kubernetes-int-or-string"):
        return "integer or string"
    if field["type"] == "array":
        return f"list of {_type(field['items'])}s"
    if "additionalProperties" in field:
        return f"map of {_type(field['additionalProperties'])}s"
    return str(field["type"])


def _default(field: Schema) -> str:
    default = field.get("default")
    if default is None or default == {}:
        return ""
    return f"`{default}`".replace("True", "true").replace("False", "false")


def _bounds(field: Schema) -> str:
    found = [", ".join(f"`{value}`" for value in field.get("enum", ()))]
    least, most = field.get("minimum"), field.get("maximum")
    if least is not None and most is not None:
        found.append(f"{least:,} to {most:,}")
    elif least is not None:
        found.append(f"at least {least}")
    item = field.get("items") or field.get("additionalProperties") or {}
    for where, what in ((field, ""), (item, "each ")):
        if where.get("minLength", 0) > 0 and "maxLength" in where:
            found.append(f"{what}{where['minLength']} to {where['maxLength']:,} characters")
        elif "maxLength" in where:
            found.append(f"{what}at most {where['maxLength']:,} characters")
    most_items = field.get("maxItems") or field.get("maxProperties")
    if most_items:
        found.append(f"at most {most_items:,}")
    if field.get("x-kubernetes-list-type") == "set":
        found.append("no duplicates")
    if "x-kubernetes-list-map-keys" in field:
        found.append(f"one for each `{field['x-kubernetes-list-map-keys'][0]}`")
    return "; ".join(part for part in found if part)


def _rules(schema: Schema) -> Iterator[str]:
    """Of the object, and of the values of its fields."""
    for rule in schema.get("x-kubernetes-validations", ()):
        yield _rule(rule["fieldPath"].removeprefix("."), rule)
    for name, field in schema["properties"].items():
        for each in (field, field.get("items") or field.get("additionalProperties") or {}):
            if "properties" not in each:
                yield from (_rule(name, rule) for rule in each.get("x-kubernetes-validations", ()))


def _rule(field: str, rule: Mapping[str, str]) -> str:
    message = rule["message"].replace("*", r"\*").replace("[", r"\[")
    return f"- `{field}`: {message}  \n  ``{rule['rule']}``"


def main(arguments: Sequence[str] | None = None) -> int:
    """See `write_or_check`."""
    return write_or_check(
        arguments, page, module="lora_operator.tools.reference", text=__doc__ or "", source="models", target="crds"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
