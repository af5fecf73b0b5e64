"""Quantities of memory are read as Kubernetes reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_operator.api.quantity import parse_quantity


@pytest.mark.parametrize(
    ("quantity", "bytes_"),
    [
        ("2Gi", 2 * 1024**3),
        ("512Mi", 512 * 1024**2),
        ("1k", 1000),
        ("1.5G", 1_500_000_000),
        ("0.1Ki", 103),  # 102.4, rounded up
        ("128974848", 128974848),
        ("129e6", 129_000_000),
        ("1E", 10**18),
        ("1E2", 100),
        ("1Ei", 1024**6),
        (1073741824, 1073741824),
        (0, 0),
        (" 2Gi ".strip(), 2 * 1024**3),
    ],
)
def test_reads_memory(quantity: int | str, bytes_: int) -> None:
    assert parse_quantity(quantity) == bytes_


@pytest.mark.parametrize(
    "quantity", ["", "Gi", "-1", -1, "2GB", "2 Gi", "1e100", "NaN", "Infinity", "1m", "1_000", "٣", True]
)
def test_refuses_what_is_no_memory(quantity: int | str) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        parse_quantity(quantity)


@given(st.text())
def test_never_raises_anything_else(text: str) -> None:
    try:
        assert parse_quantity(text) >= 0
    except ValueError as error:
        assert "is not a quantity" in str(error)
