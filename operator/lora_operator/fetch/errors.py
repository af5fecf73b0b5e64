"""Why something could not be fetched."""

from __future__ import annotations

from lora_operator.process.failure import Failure


class FetchError(Failure):
    """A version could not be fetched."""
