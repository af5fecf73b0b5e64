"""What the models of the resource are made of: each piece says one rule twice, in Python for the operator that reads an
object and as OpenAPI or CEL for the API server that admits it, so that the two cannot drift apart."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

ELLIPSIS = "…"


@dataclass(frozen=True, slots=True)
class Shape:
    """A string's form as a regular expression (RE2's subset), with a message that a person can act on.

    A schema `pattern` would do the same, but then the user gets to see the expression instead of the message.
    `forbids` are substrings that it may not contain, which RE2 cannot say for want of look-ahead.
    """

    pattern: str
    message: str
    max_length: int
    min_length: int = 1
    forbids: tuple[str, ...] = ()

    def fits(self, value: str) -> bool:
        return re.fullmatch(self.pattern, value, re.ASCII) is not None and not any(
            part in value for part in self.forbids
        )

    def cel(self, subject: str = "self") -> str:
        parts = [f"{subject}.matches({cel_string(f'^(?:{self.pattern})$')})"]
        parts += [f"!{subject}.contains({cel_string(part)})" for part in self.forbids]
        return " && ".join(parts)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def check(value: str) -> str:
            if not self.min_length <= len(value) <= self.max_length:
                bounds = f"{self.min_length} to {self.max_length}"
                raise PydanticCustomError("length", "must have {bounds} characters", {"bounds": bounds})
            if not self.fits(value):
                raise PydanticCustomError("shape", "{message}", {"message": self.message})
            return value

        return core_schema.no_info_after_validator_function(check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {
            **handler(schema),
            **({"minLength": self.min_length} if self.min_length else {}),
            "maxLength": self.max_length,
            "x-kubernetes-validations": [{"rule": self.cel(), "message": self.message}],
        }


@dataclass(frozen=True, slots=True)
class Cut:
    """A bound on a text or list that the operator itself writes: what is too long is cut, never refused, since a status
    that the API server refuses tells the user nothing at all."""

    limit: int

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def cut(value: Any) -> Any:
            if isinstance(value, str) and len(value) > self.limit:
                return value[: self.limit - 1] + ELLIPSIS
            if isinstance(value, list | tuple) and len(value) > self.limit:
                return value[: self.limit]
            return value

        return core_schema.no_info_before_validator_function(cut, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        inner = handler(schema)
        return {**inner, ("maxItems" if inner.get("type") == "array" else "maxLength"): self.limit}


@dataclass(frozen=True, slots=True)
class Kubernetes:
    """Schema keywords that Kubernetes adds to OpenAPI; `list_type` "set" makes the API server refuse duplicates."""

    list_type: str | None = None
    list_keys: tuple[str, ...] = ()
    map_type: str | None = None
    immutable: str | None = None  # the message when somebody changes it

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        extra: dict[str, Any] = dict(handler(schema))
        if self.list_type:
            extra["x-kubernetes-list-type"] = self.list_type
        if self.list_keys:
            extra["x-kubernetes-list-map-keys"] = list(self.list_keys)
        if self.map_type:
            extra["x-kubernetes-map-type"] = self.map_type
        if self.immutable:
            rule = {"rule": "self == oldSelf", "message": self.immutable}
            extra["x-kubernetes-validations"] = [*extra.get("x-kubernetes-validations", []), rule]
        return extra


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule over several fields of one object, as CEL for the API server and as `holds` for the operator.

    `field` is the one to blame, as a path from the object that has the rule (`.repository`).
    """

    cel: str
    holds: Callable[[Any], bool]
    message: str
    field: str
    reason: str = "FieldValueInvalid"

    def as_schema(self) -> dict[str, str]:
        return {"rule": self.cel, "message": self.message, "fieldPath": self.field, "reason": self.reason}


class Model(BaseModel):
    """A part of the resource: snake_case in Python, camelCase in YAML, unknown fields ignored, never changed."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
    )
    rules: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="after")
    def _keeps_its_rules(self) -> Self:
        for rule in self.rules:
            if not rule.holds(self):
                raise PydanticCustomError("rule", "{message}", {"message": rule.message, "field": rule.field})
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        own = dict(handler.resolve_ref_schema(handler(schema)))
        if cls.rules:
            own["x-kubernetes-validations"] = [rule.as_schema() for rule in cls.rules]
        return own

    def to_dict(self) -> dict[str, Any]:
        """The JSON that goes to the API server: camelCase, without what is unset, and without empty lists.

        Server-side apply drops a list that has become empty, so that one that was sent would never come back, and
        whoever compares the two would write for ever.
        """
        content: dict[str, Any] = _without_empty_lists(self.model_dump(by_alias=True, exclude_none=True, mode="json"))
        return content


def _without_empty_lists(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_empty_lists(value) for key, value in node.items() if value != []}
    return [_without_empty_lists(item) for item in node] if isinstance(node, list) else node


def cel_string(text: str) -> str:
    """A CEL literal; raw, so that a regular expression needs no second escaping."""
    if "'" in text:
        raise ValueError(f"CEL literal {text!r} has a quote: write the expression without one")
    return f"r'{text}'" if "\\" in text else f"'{text}'"
