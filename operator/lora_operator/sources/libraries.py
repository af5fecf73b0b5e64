"""The libraries of the stores: an extra, `sources`, so that `kubectl lora` installs without them."""

from __future__ import annotations

from importlib.util import find_spec

LIBRARIES = ("azure", "botocore", "httpx2", "huggingface_hub")


def missing_libraries() -> tuple[str, ...]:
    """Those that are not installed. Imports none of them: together they take a second."""
    return tuple(name for name in LIBRARIES if find_spec(name) is None)
