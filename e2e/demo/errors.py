"""What can go wrong with the demo.

DemoError
├── CannotStart      this machine lacks something, or a demo runs already; nothing was started
└── NotAsExpected    the system did not do what the demo promises
"""

from __future__ import annotations


class DemoError(Exception):
    """The demo cannot go on; the message says why and what to do."""


class CannotStart(DemoError):
    """Something is in the way before anything was started."""


class NotAsExpected(DemoError):
    """What was to be shown did not happen; the message says what was there instead."""
