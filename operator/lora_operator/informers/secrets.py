"""Secrets by reference: of engines' API keys and of adapter sources. What they hold is never logged or shown."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any, TypeVar

from lora_operator.informers.polled import Polled
from lora_operator.kube.client import Kube

AGAIN_SECONDS = 60.0
T = TypeVar("T")


def read_secret(body: dict[str, Any]) -> dict[str, str]:
    """The readable entries of a Secret: text that is not empty, without white space around it."""
    data = body.get("data")
    found: dict[str, str] = {}
    for key, value in (data if isinstance(data, dict) else {}).items():
        try:
            text = base64.b64decode(value, validate=True).decode().strip()
        except (ValueError, TypeError, binascii.Error):
            continue
        if text:
            found[str(key)] = text
    return found


def secrets(
    kube: Kube, changed: Callable[[], None], retry_seconds: float, parse: Callable[[dict[str, Any]], T]
) -> Polled[T]:
    """Secrets that are read again every minute, so that rotation is noticed. `parse`: see `Polled`."""
    return Polled(kube.secret, parse, changed, again_seconds=AGAIN_SECONDS, retry_seconds=retry_seconds)
