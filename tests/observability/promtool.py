"""Prometheus' own checks, where it is installed."""

from __future__ import annotations

import shutil

import pytest

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="promtool is not on the PATH; it comes with Prometheus (Debian, Ubuntu: apt install prometheus)",
)
