"""Where environments and the model are kept, outside of the repository, so that they are made once."""

from __future__ import annotations

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def cache_root() -> Path:
    """`$LORA_OPERATOR_CACHE/lora-operator`, by default under ~/.cache."""
    return Path(os.environ.get("LORA_OPERATOR_CACHE") or Path.home() / ".cache") / "lora-operator"


def environment(release: str) -> Path:
    """The virtual environment of a release."""
    return cache_root() / f"vllm-{release}"


def python(release: str) -> Path:
    """Its interpreter."""
    return environment(release) / "bin" / "python"


def model_folder() -> Path:
    """The tiny model with its weights."""
    return cache_root() / "vllm-tiny-model"
