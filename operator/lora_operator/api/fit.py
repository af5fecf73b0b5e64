"""Keeps a status small: it is written, watched and kept in memory as a whole, each time anything in it changes.

What each pod holds is said in full by its LoraEndpoint, so that nothing but people's view of it is cut here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from lora_operator.api.status import (
    MAX_ASSIGNMENTS,
    Condition,
    ConditionType,
    FailedAdapter,
    LoraAdapterStatus,
    PodAssignment,
)

# With a spec of the usual size and managedFields the object stays below 100 kB.
LIMIT_BYTES = 64_000
CUT = "; lists of this status are cut, LoraEndpoints (kubectl get le) have all that is loaded"

_Step = Callable[[LoraAdapterStatus], LoraAdapterStatus]


def fit(status: LoraAdapterStatus, limit_bytes: int = LIMIT_BYTES) -> LoraAdapterStatus:
    """The same status if its JSON has at most `limit_bytes`, else one with as little left out as needed.

    What goes first is what tells least: reasons per pod beyond the first ones, long messages, then pods, which say
    themselves what they hold, then the ends of lists. Conditions, phase and summary always stay. A status that has been
    cut says so in `truncated` and in the message of its condition Ready.
    """
    if len(status.pod_assignments) <= MAX_ASSIGNMENTS and _size(status) <= limit_bytes:
        return _said(status) if status.truncated else status
    status = _said(status.model_copy(update={"truncated": True}))
    status = status.model_copy(update={"pod_assignments": status.pod_assignments[:MAX_ASSIGNMENTS]})
    for step in _steps(limit_bytes):
        if _size(status) <= limit_bytes:
            break
        status = step(status)
    return status


def _size(status: LoraAdapterStatus | PodAssignment) -> int:
    return len(status.model_dump_json(by_alias=True, exclude_none=True).encode())


def _said(status: LoraAdapterStatus) -> LoraAdapterStatus:
    def told(condition: Condition) -> Condition:
        if condition.type != ConditionType.READY or CUT in condition.message:
            return condition
        return condition.model_copy(update={"message": condition.message[: 1024 - len(CUT)] + CUT})

    return status.model_copy(update={"conditions": tuple(map(told, status.conditions))})


def _steps(limit_bytes: int) -> Iterator[_Step]:
    for pods in (4, 1, 0):
        yield partial(_failures, pods=pods)
    yield partial(_failures, message=256)
    yield partial(_assignments, limit_bytes=limit_bytes)
    for keep in (1000, 500, 400, 300, 200, 100, 50, 10, 0):
        yield partial(_lists, keep=keep)


def _failures(status: LoraAdapterStatus, *, pods: int | None = None, message: int | None = None) -> LoraAdapterStatus:
    def shorter(failure: FailedAdapter) -> FailedAdapter:
        return failure.model_copy(
            update={
                "pods": failure.pods[:pods],
                "message": failure.message[:message] if failure.message else failure.message,
            }
        )

    return status.model_copy(update={"failed_adapters": tuple(shorter(one) for one in status.failed_adapters)})


def _assignments(status: LoraAdapterStatus, *, limit_bytes: int) -> LoraAdapterStatus:
    """As many pods as there is room for, each in full."""
    room = limit_bytes - _size(status.model_copy(update={"pod_assignments": ()}))
    kept: list[PodAssignment] = []
    for assignment in status.pod_assignments:
        room -= _size(assignment) + 1  # and a comma
        if room < 0:
            break
        kept.append(assignment)
    return status.model_copy(update={"pod_assignments": tuple(kept)})


def _lists(status: LoraAdapterStatus, *, keep: int) -> LoraAdapterStatus:
    return status.model_copy(
        update={
            "failed_adapters": status.failed_adapters[:keep],
            "adapters": status.adapters[:keep],
            "loaded_adapters": status.loaded_adapters[:keep],
        }
    )
