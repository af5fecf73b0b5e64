"""Running one case against a server that answers."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from .case import Server
from .frontend import Frontend
from .target import KEY, Launch, Target


@asynccontextmanager
async def target(
    url: str,
    version: str,
    server: Server,
    *,
    is_real: bool,
    frontend: Frontend = Frontend.PYTHON,
    exit_code: Callable[[], Awaitable[int]] | None = None,
    restart: Callable[[], Awaitable[str]] | None = None,
    launch: Launch | None = None,
) -> AsyncIterator[Target]:
    """A Target with a session and an empty folder of its own; both are gone afterwards."""
    timeout = aiohttp.ClientTimeout(total=60)
    with tempfile.TemporaryDirectory(prefix="contract-") as scratch:
        # Some releases close a connection after an error without saying so: the next request would meet that.
        connector = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            yield Target(
                url=url,
                version=version,
                session=session,
                scratch=Path(scratch),
                is_real=is_real,
                frontend=frontend,
                key=KEY if server is Server.KEYED else None,
                exit_code=exit_code,
                restart=restart,
                launch=launch,
            )
