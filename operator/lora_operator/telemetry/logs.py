"""Log lines for machines (JSON) or for people (console)."""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime

_NUMBERS = re.compile(r"\d+")
FIELDS = ("pod", "adapter", "version", "resource")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the fields that the caller gave."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name in FIELDS if (value := getattr(record, name, None)) is not None}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class OncePerMinute(logging.Filter):
    """The exporter of traces repeats itself while its collector is away: let each complaint through once a minute."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        what = _NUMBERS.sub("#", record.getMessage())[:160]
        if record.created - self._said.get(what, 0.0) < 60.0:
            return False
        if len(self._said) > 1000:
            self._said.clear()
        self._said[what] = record.created
        record.msg, record.args = record.getMessage()[:400], None
        return True


def configure(log_format: str, level: str) -> None:
    """Log to standard error, ours at `level`, the chatter of libraries at warning and above."""
    handler = logging.StreamHandler(sys.stderr)
    if log_format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in ("aiohttp", "asyncio"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    # a filter sees only what is logged to its own logger, a handler's filter sees all that arrives
    once = OncePerMinute()
    handler.addFilter(lambda record: not record.name.startswith("opentelemetry") or once.filter(record))
