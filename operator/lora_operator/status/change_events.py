"""Which Events tell of the step from one status to the next. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Status = Mapping[str, Any]
Event = tuple[str, str, str]  # type, reason, message


def events_between(before: Status, after: Status) -> list[Event]:
    """What is worth telling about the step from one status to the next."""
    events: list[Event] = []
    known = {(item["name"], item.get("code")) for item in before.get("failedAdapters") or ()}
    for item in after.get("failedAdapters") or ():
        if (item["name"], item.get("code")) not in known:
            events.append(("Warning", item.get("code") or "Failed", f"{item['name']}: {item.get('message', '')}"))
    was, now = _condition(before, "SourceReady"), _condition(after, "SourceReady")
    if now.get("status") == "False" and (was.get("status"), was.get("reason")) != ("False", now.get("reason")):
        events.append(("Warning", str(now.get("reason")), str(now.get("message"))))
    was, now = _condition(before, "Ready"), _condition(after, "Ready")
    if now.get("status") == "True" and was.get("status") != "True":
        events.append(("Normal", "Ready", str(now.get("message"))))
    versions = {item["name"]: item.get("fingerprint") for item in before.get("adapters") or ()}
    for item in after.get("adapters") or ():
        old = versions.get(item["name"])
        if old is not None and old != item.get("fingerprint"):
            text = f"{item['name']} changed at its source: version {old} gives way to {item.get('fingerprint')}"
            events.append(("Normal", "NewVersion", text))
    return events


def _condition(status: Status, kind: str) -> Mapping[str, Any]:
    return next((c for c in status.get("conditions") or () if c.get("type") == kind), {})
