"""How the long-running commands are told to end."""

from __future__ import annotations

import asyncio
import signal


def stop_flag() -> asyncio.Event:
    """Set by SIGTERM, as the kubelet sends it, or an interrupt. To be called in the event loop that is to end."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop
