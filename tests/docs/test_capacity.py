"""The sizes on the page of capacity planning are what the formula gives."""

from __future__ import annotations

import re

from tests.docs.pages import PAGES

PAGE = PAGES["docs/capacity.md"]
MIB = 1 << 20


def per_rank(hidden: int, kv: int, mlp: int, layers: int) -> tuple[float, float]:
    """MiB for one unit of rank in 16 bits: of q, k, v and o; of those and the three matrices of the MLP."""
    attention = 2 * (hidden + hidden) + 2 * (hidden + kv)
    return 2 * layers * attention / MIB, 2 * layers * (attention + 3 * (hidden + mlp)) / MIB


def test_sizes_are_computed_from_the_shapes() -> None:
    rows = re.findall(
        r"^\| [\w. ]+ \| (\d+) \| (\d+) \| (\d+) \| (\d+) \| ([\d.]+) \| ([\d.]+) \|$", PAGE, re.MULTILINE
    )
    assert len(rows) >= 4
    for *shape, attention, everything in rows:
        expected = per_rank(*map(int, shape))
        assert abs(expected[0] - float(attention)) <= 0.005 and abs(expected[1] - float(everything)) <= 0.005, shape


def test_sizes_by_rank_follow() -> None:
    expected = per_rank(4096, 1024, 14336, 32)
    for name, each in zip(("attention only", "all linear layers"), expected, strict=True):
        row = " | ".join(f"{each * rank:.0f}" for rank in (8, 16, 32, 64, 128))
        assert f"| {name} | {row} |" in PAGE
