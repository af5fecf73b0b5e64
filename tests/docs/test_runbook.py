"""Whoever is woken by an alert, or reads a reason, finds it in the runbook."""

from __future__ import annotations

from collections import Counter

from tests.delivery.reasons_in_code import PACKAGE
from tests.docs.pages import PAGES
from tests.docs.said import alerts, all_reasons

PAGE = PAGES["docs/runbook.md"]
HEADINGS = [line[4:].split(", ") for line in PAGE.splitlines() if line.startswith("### ")]
WORDS = Counter(word for heading in HEADINGS for word in heading)


def test_every_alert_has_its_own_heading() -> None:
    assert [name for name in alerts() if [name] not in HEADINGS] == []


def test_every_reason_has_one_heading() -> None:
    reasons = all_reasons()
    assert len(reasons) > 200
    assert sorted(reasons - WORDS.keys()) == []
    assert [word for word, count in WORDS.items() if count > 1] == []


def test_nothing_is_explained_that_nobody_says() -> None:
    code = "".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    known = {*all_reasons(), *alerts()}
    assert sorted(word for word in WORDS if word not in known and f'"{word}"' not in code) == []


def test_every_heading_says_what_it_means() -> None:
    sections = PAGE.split("\n### ")[1:]
    assert [each.partition("\n")[0] for each in sections if not each.partition("\n")[2].startswith("**Means.** ")] == []
