"""Failed assertions in the cases show their values, as those in tests do; what the corpus has shown is a table."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

pytest.register_assert_rewrite("e2e.contract")
ROW = "row of the corpus"  # the property of a test's report: (right or not, verdict, adapter, what vLLM does)
_SHOWN = 100  # characters of vLLM's words


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The verdicts of the corpus beside what the engine did."""
    reports = [one for kind in ("passed", "failed") for one in terminalreporter.getreports(kind)]
    rows = [row for report in reports for name, row in report.user_properties if name == ROW]
    if rows:
        terminalreporter.section("the corpus on this release")
        terminalreporter.write_line("\n".join(_table(rows)))


def _table(rows: Iterable[tuple[str, str, str, str]]) -> list[str]:
    cut = [(right, verdict, what, " ".join(does.split())[:_SHOWN]) for right, verdict, what, does in rows]
    whole = [("", "inspection says", "adapter", "vLLM"), *cut]
    widths = [max(len(row[column]) for row in whole) for column in range(3)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]) for row in whole
    ]
