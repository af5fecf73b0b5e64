"""Whoever is woken by an alert, or reads a reason, finds what to do."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.delivery.reasons_in_code import PACKAGE
from tests.docs.pages import PAGES
from tests.docs.said import alerts, all_reasons

RUNBOOK, REASONS = "docs/runbook.md", "docs/reasons.md"


def headings(page: str) -> list[str]:
    return [line[4:] for line in PAGES[page].splitlines() if line.startswith("### ")]


WORDS = Counter(word for heading in headings(REASONS) for word in heading.split(", "))


def test_the_runbook_has_every_alert() -> None:
    assert sorted(headings(RUNBOOK)) == sorted(alerts())


def test_every_reason_has_one_heading() -> None:
    reasons = all_reasons()
    assert len(reasons) > 200
    assert sorted(reasons - WORDS.keys()) == []
    assert [word for word, count in WORDS.items() if count > 1] == []


def test_nothing_is_explained_that_nobody_says() -> None:
    code = "".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    assert sorted(word for word in WORDS - Counter(all_reasons()) if f'"{word}"' not in code) == []


@pytest.mark.parametrize("page", [RUNBOOK, REASONS])
def test_every_heading_says_what_it_means(page: str) -> None:
    sections = [each.partition("\n") for each in PAGES[page].split("\n### ")[1:]]
    assert [heading for heading, _, text in sections if not text.startswith("- **Means.** ")] == []


def test_every_alert_says_what_to_check_and_what_to_do() -> None:
    sections = PAGES[RUNBOOK].split("\n### ")[1:]
    assert [one.partition("\n")[0] for one in sections if "- **Check.** " not in one or "- **Do.** " not in one] == []
