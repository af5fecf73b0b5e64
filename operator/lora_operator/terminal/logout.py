"""`lora logout`."""

from __future__ import annotations

import argparse

from lora_operator.terminal.access import forget, kept_in


async def run(_: argparse.Namespace) -> int:
    print("forgotten" if forget(kept_in()) else "there was no login")
    return 0
