"""When signed links run out."""

from __future__ import annotations

import pytest

from lora_operator.sources.http_link_expiry import UNKNOWN_SECONDS, link_expiry

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", None),
        ("?X-Amz-Date=20231114T221320Z&X-Amz-Expires=3600&X-Amz-Signature=0", NOW + 3600),
        ("?Expires=1700000060&Policy=x&Signature=y", NOW + 60),
        ("?Policy=x&Signature=y", NOW + UNKNOWN_SECONDS),
        ("?X-Amz-Expires=3600", NOW + UNKNOWN_SECONDS),
        ("?X-Amz-Date=yesterday&X-Amz-Expires=3600", NOW + UNKNOWN_SECONDS),
        ("?Expires=soon", NOW + UNKNOWN_SECONDS),
    ],
)
def test_reads_the_end_of_a_link_from_its_query(query: str, expected: float | None) -> None:
    assert link_expiry(f"https://files.example/blob{query}", NOW) == expected
