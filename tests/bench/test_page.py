"""The page for people gets its figures between two marks, and shows pictures that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.figures import Figure
from bench.placement.page import BEGIN, END, refresh

PAGE = Path(__file__).parents[2] / "docs" / "placement.md"
MISSED = Figure("unplaced | odd", (1.0, 2.0), "replicas", "0", "random 3 (1)", False, "one | note")


def test_figures_take_the_place_of_those_before(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Title\n{BEGIN}\nold\n{END}\nend\n")
    for _ in range(2):
        refresh(page, [MISSED], [("changes: what they mean", [("a", "b"), ("1", "2")])], "Measured.")
    text = page.read_text()
    assert text.startswith(f"# Title\n{BEGIN}\nMeasured.\n")
    assert text.endswith(f"| 1 | 2 |\n{END}\nend\n")
    assert text.count("### Changes\n\nwhat they mean.\n\n| a | b |") == 1
    assert "| unplaced \\| odd | 1 / 2 / 2 / 2 replicas | 0 | **no** | random 3 (1) |" in text
    assert "old" not in text


@pytest.mark.parametrize("text", ["", BEGIN, END, f"{END}{BEGIN}"], ids=["none", "no end", "no begin", "swapped"])
def test_a_page_without_a_place_for_figures_is_left_alone(tmp_path: Path, text: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(ValueError, match="put <!-- figures: begin -->"):
        refresh(page, [MISSED], [], "Measured.")
    assert page.read_text() == text


def test_the_page_has_a_place_for_figures_and_its_pictures_exist() -> None:
    text = PAGE.read_text()
    assert text.index(BEGIN) < text.index(END)
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)
    assert pictures
    assert [name for name in pictures if not (PAGE.parent / name).is_file()] == []
