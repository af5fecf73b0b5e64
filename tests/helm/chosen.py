"""A value other than the default for every setting of a command, as the values of a chart have it."""

from __future__ import annotations

import dataclasses
from typing import Any

from helm.render import setting_name
from lora_operator.settings.options import size


def all_settings(settings: type[Any], given: frozenset[str]) -> dict[str, Any]:
    """Every setting but those that the chart gives itself."""
    return {setting_name(item.name): _another(item) for item in dataclasses.fields(settings) if item.name not in given}


def as_chosen(got: Any, settings: type[Any], given: frozenset[str]) -> dict[str, Any]:
    """What a command has read, in the form of `all_settings`."""
    values = {item.name: getattr(got, item.name) for item in dataclasses.fields(settings) if item.name not in given}
    return {
        setting_name(name): list(value) if isinstance(value, tuple) else "50Gi" if value == 50 << 30 else value
        for name, value in values.items()
    }


def _another(item: dataclasses.Field[Any]) -> Any:
    kind, default, most = item.metadata["kind"], item.default, item.metadata.get("most")
    if choices := item.metadata.get("choices"):
        return next(choice for choice in choices if choice != default)
    if item.name == "routing_weights":
        return "prefix=2"
    if kind is tuple:
        return ["team-a=adapters:20", "b=bytes:1Gi"]
    if kind is bool:
        return not default
    if kind is int:
        return most if most is not None else default + 1_000_000
    if kind is float:
        return most if most is not None else default + 30.5
    if kind is size:
        return "50Gi"
    return "/some/where"
