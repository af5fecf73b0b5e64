"""Recognising our own paths in what engines list."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_operator.cache.paths import parse_root

VERSION = "0123456789abcdef"


@pytest.mark.parametrize("root", ["/adapters", "/adapters/", "/"])
def test_recognises_a_path_of_ours(root: str) -> None:
    assert parse_root(f"{root.rstrip('/')}/alpaca/{VERSION}", root) == ("alpaca", VERSION)
    assert parse_root(f"{root.rstrip('/')}/alpaca/{VERSION}/", root) == ("alpaca", VERSION)


@pytest.mark.parametrize(
    "path",
    [
        "", "/adapters", "/adapters/alpaca", f"/adapters/{VERSION}", f"/adapters/alpaca/x/{VERSION}",
        f"/adapters/../alpaca/{VERSION}", f"/adapters/.tmp/{VERSION}", f"/adapters//{VERSION}", "/adapters/alpaca/v1",
        f"/adapters/alpaca/{VERSION}//", f"/adapters2/alpaca/{VERSION}", f"adapters/alpaca/{VERSION}",
        f"/adapters/alpaca/{VERSION.upper()}", f"/adapters/a,b/{VERSION}",
        f"s3://adapters/alpaca/{VERSION}", "org/repo",
    ],
)  # fmt: skip
def test_leaves_everybody_elses_alone(path: str) -> None:
    assert parse_root(path, "/adapters") is None
    assert parse_root(path, "") is None


@given(st.text(), st.text())
def test_never_fails(path: str, root: str) -> None:
    parse_root(path, root)
