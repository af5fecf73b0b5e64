"""Keeps a status under the API server's limit of size: a status that is too large would be refused as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from lora_operator.api.status import FailedAdapter, LoraAdapterStatus, PodAssignment

# etcd takes requests of 1.5 MiB. The object also has a spec of at most some 150 kB, and managedFields, which repeat
# every key of every list map: together less than the status itself.
LIMIT_BYTES = 600_000

_Step = Callable[[LoraAdapterStatus], LoraAdapterStatus]


def fit(status: LoraAdapterStatus, limit_bytes: int = LIMIT_BYTES) -> LoraAdapterStatus:
    """The same status if its JSON has at most `limit_bytes`, else one with as little left out as needed.

    What goes first is what tells least: reasons per pod beyond the first ones, long messages, then the ends of lists.
    Conditions, phase and summary always stay. A status that has been cut says so in `truncated`.
    """
    if _size(status) <= limit_bytes:
        return status
    for step in _steps():
        status = step(status).model_copy(update={"truncated": True})
        if _size(status) <= limit_bytes:
            break
    return status


def _size(status: LoraAdapterStatus) -> int:
    return len(status.model_dump_json(by_alias=True, exclude_none=True).encode())


def _steps() -> Iterator[_Step]:
    for pods in (4, 1, 0):
        yield partial(_failures, pods=pods)
    yield partial(_failures, message=256)
    for keep in (1000, 500, 250, 100, 50, 10, 0):
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


def _lists(status: LoraAdapterStatus, *, keep: int) -> LoraAdapterStatus:
    def shorter(assignment: PodAssignment) -> PodAssignment:
        return assignment.model_copy(
            update={"adapters": assignment.adapters[:keep], "engine_names": assignment.engine_names[:keep]}
        )

    return status.model_copy(
        update={
            "failed_adapters": status.failed_adapters[:keep],
            "adapters": status.adapters[:keep],
            "loaded_adapters": status.loaded_adapters[:keep],
            "pod_assignments": tuple(shorter(one) for one in status.pod_assignments[:keep]),
        }
    )
