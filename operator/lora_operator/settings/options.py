"""Settings as frozen dataclasses: each field is a flag of a command, and an environment variable.

`option` describes a field, `add_options` puts the fields on a command line, `read_options` makes the value of it.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import field, fields
from typing import Any, TypeVar

from lora_operator.api.quantity import parse_quantity

ENVIRONMENT_PREFIX = "LORA_OPERATOR_"

T = TypeVar("T")


class SettingsError(Exception):
    """A flag or environment variable has a value that cannot be used; the message says which and why."""


def option(default: Any, text: str, kind: Any = str, **extra: Any) -> Any:
    metadata = {"help": text, "kind": kind, **extra}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def size(text: str) -> int:
    """An amount of bytes: 50Gi, 500M, 1024. For `kind`. Raises ValueError."""
    return parse_quantity(text)


def add_options(parser: argparse.ArgumentParser, settings: type[Any], prefix: str = ENVIRONMENT_PREFIX) -> None:
    """Add one flag per field; its help names the environment variable and the default. Lists are repeated flags."""
    for item in fields(settings):
        kind = item.metadata["kind"]
        flag = _flag(item.name, kind)
        default = "" if item.default in ((), "", None) else f" (default: {item.default})"
        text = f"{item.metadata['help']}{default} [{prefix}{item.name.upper()}]".replace("%", "%%")
        common: dict[str, Any] = {"dest": item.name, "default": None, "help": text}
        if kind is tuple:
            parser.add_argument(flag, action="append", metavar="VALUE", **common)
        elif kind is bool:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, **common)
        else:
            parser.add_argument(flag, choices=item.metadata.get("choices"), type=kind, **common)


def read_options(
    settings: type[T],
    arguments: argparse.Namespace,
    environment: Mapping[str, str] | None = None,
    prefix: str = ENVIRONMENT_PREFIX,
) -> T:
    """Flags win over the environment, the environment over defaults.

    Raises:
        SettingsError: a value cannot be converted or makes no sense.
    """
    environment = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    for item in fields(settings):  # type: ignore[arg-type]
        value = getattr(arguments, item.name, None)
        origin = _flag(item.name, item.metadata["kind"])
        if value is None:
            origin = prefix + item.name.upper()
            text = environment.get(origin)
            if text is None:
                continue
            value = _convert(origin, text, item.metadata["kind"], item.metadata.get("separator", ","))
        if isinstance(value, list):
            value = tuple(value)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            _check_number(origin, value, item.metadata.get("least", 0), item.metadata.get("most"))
        choices: Sequence[str] | None = item.metadata.get("choices")
        if choices and value not in choices:
            raise SettingsError(f"{origin}: {value!r} is none of {', '.join(choices)}")
        values[item.name] = value
    return settings(**values)


def _flag(name: str, kind: Any) -> str:
    """A list is given by repeating a flag, whose name is in the singular."""
    flag = "--" + name.replace("_", "-")
    return flag.removesuffix("s") if kind is tuple else flag


def _check_number(origin: str, value: float, least: float, most: float | None) -> None:
    if not math.isfinite(value) or value < least:
        raise SettingsError(f"{origin}: {value} cannot be used; give {least:g} or more")
    if most is not None and value > most:
        raise SettingsError(f"{origin}: {value} is too much; give at most {most:g}")


def _convert(origin: str, text: str, kind: Any, separator: str) -> Any:
    if kind is tuple:
        return tuple(part.strip() for part in text.split(separator) if part.strip())
    if kind is bool:
        if text.lower() not in ("true", "false", "1", "0"):
            raise SettingsError(f"{origin}: {text!r} is neither true nor false")
        return text.lower() in ("true", "1")
    try:
        return kind(text)
    except ValueError as error:
        raise SettingsError(f"{origin}: {text!r} is not a {kind.__name__}") from error


ENDPOINT_HELP = (
    "base URL of a collector that takes OpenTelemetry's OTLP over HTTP, for example http://collector:4318; needs the "
    "extra otel (default: OTEL_EXPORTER_OTLP_ENDPOINT if that is set, else nothing is traced)"
)
HOST_HELP = " (default: all addresses, IPv6 ones too where the machine has them)"
