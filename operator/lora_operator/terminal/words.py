"""Sizes, times and states as `lora` prints them."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from rich.text import Text

from lora_operator.plugin.screen import BAD, GOOD, WORRYING, in_size, in_time

_STYLES = {"Loaded": GOOD, "Failed": BAD, "rejected": BAD, "quarantined": WORRYING}


def ago(moment: str | None, unknown: str = "") -> str:
    if moment is None:
        return unknown
    return in_time(time.time() - datetime.fromisoformat(moment).timestamp())


def in_bytes(count: int) -> str:
    return f"{in_size(count)}B" if count < 1024 else in_size(count)


def state(lora: dict[str, Any]) -> Text:
    if lora["deleted_at"] is not None:
        return Text(f"deleted {ago(lora['deleted_at'])} ago")
    return Text(lora["state"], _STYLES.get(lora["state"], ""))
