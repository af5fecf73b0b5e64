"""Who answers HTTP before the engine: a fact beside the release."""

from __future__ import annotations

from enum import StrEnum


class Frontend(StrEnum):
    """vLLM's own server in Python, or `vllm-rs`, which some releases have beside it (VLLM_USE_RUST_FRONTEND=1)."""

    PYTHON = "python"
    RUST = "rust"
