"""Where environments and the model are kept, outside of the repository, so that they are made once."""

from __future__ import annotations

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
_COMPILED_PARTS_OF = {"0.33.0": "0.32.0"}


def cache_root() -> Path:
    """`$LORA_OPERATOR_CACHE/lora-operator`, by default under ~/.cache."""
    return Path(os.environ.get("LORA_OPERATOR_CACHE") or Path.home() / ".cache") / "lora-operator"


def compiled_release(release: str) -> str:
    """The release whose compiled parts a release runs on: its own where there is a CPU wheel of it."""
    return _COMPILED_PARTS_OF.get(release, release)


def environment(release: str) -> Path:
    """The virtual environment of a release."""
    return cache_root() / f"vllm-{compiled_release(release)}"


def python(release: str) -> Path:
    """Its interpreter."""
    return environment(release) / "bin" / "python"


def packages(release: str) -> Path:
    """Where its packages are installed."""
    return next((environment(release) / "lib").glob("python3.*/site-packages"))


def overlay(release: str) -> Path:
    """The code of a release that has no CPU wheel."""
    return cache_root() / f"vllm-{release}-code"


def model_folder() -> Path:
    """The tiny model with its weights."""
    return cache_root() / "vllm-tiny-model"
