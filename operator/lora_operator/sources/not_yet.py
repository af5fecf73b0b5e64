"""The source types that the API knows and that this version cannot read yet: a clear refusal instead of silence."""

from __future__ import annotations

from lora_operator.fetch.order import FetchOrder
from lora_operator.sources.base import FoundAdapter, Resolution, SourceError, SourceRequest


class NotYetSource:
    """Refuses every request of its type."""

    def __init__(self, type_name: str) -> None:
        self._type = type_name

    async def resolve(self, request: SourceRequest, previous: Resolution | None) -> Resolution:
        """Raise SourceError: trying again does not help."""
        raise self._refusal(request)

    async def locate(self, request: SourceRequest, found: FoundAdapter) -> FetchOrder:
        """Raise SourceError: trying again does not help."""
        raise self._refusal(request)

    def _refusal(self, request: SourceRequest) -> SourceError:
        return SourceError(
            "SourceNotSupportedYet",
            f"adapterSource.type {self._type!r} is not supported by this version of the operator: put the files of "
            f"{request.repository[:200]!r} on a volume and use type 'local'",
            retryable=False,
        )
