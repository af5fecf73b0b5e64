"""Skips what needs Helm where there is none and none can be built."""

from __future__ import annotations

import pytest

from e2e.controlplane.helm import may_have_helm


@pytest.fixture(autouse=True, scope="session")
def helm() -> None:
    """Every test of this folder needs Helm; the first may have to wait until it is built."""
    if why := may_have_helm():
        pytest.skip(why)
