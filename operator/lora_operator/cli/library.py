"""`lora-operator library`: the service that people upload adapters to."""

from __future__ import annotations

import argparse
import asyncio
import logging
from typing import Any

from lora_library.settings import ENVIRONMENT_PREFIX, LibrarySettings, from_arguments
from lora_operator.cli.stopping import run
from lora_operator.kube.client import KubeError
from lora_operator.process.components import ComponentExited
from lora_operator.settings.options import add_options
from lora_operator.telemetry import logs
from lora_operator.telemetry.server import ServeError

log = logging.getLogger(__name__)


def add(commands: Any) -> None:
    """Register the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "library",
        help="serve the user library, until it is told to stop (SIGTERM)",
        description="Takes adapters that people upload, checks and stores them, and tells the operator of them, so "
        "that each can call their own. `lora-operator library rebuild` makes the database anew from the store.",
    )
    parser.add_argument("action", nargs="?", choices=("serve", "rebuild"), default="serve", help="default: serve")
    add_options(parser, LibrarySettings, ENVIRONMENT_PREFIX)
    parser.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> int:
    settings = from_arguments(arguments)
    logs.configure(settings.log_format, settings.log_level)
    try:
        from lora_library import database, service  # their libraries are an extra
    except ImportError as error:
        log.error("cannot start: %s; pip install 'lora-operator[library]'", error)
        return 1
    try:
        return run(lambda stop: _run(settings, stop, arguments.action))
    except ComponentExited as error:
        log.error("%s, and so do I, to be started anew", error, exc_info=error.__cause__)
    except (service.CannotStart, database.BadDatabase, KubeError, ServeError) as error:
        log.error("cannot start: %s", error)
    return 1


async def _run(settings: LibrarySettings, stop: asyncio.Event, action: str) -> int:
    from lora_library import rebuild, service

    if action == "serve":
        await service.run_library(settings, stop)
        return 0
    database = await service.opened(settings)
    try:
        added, passed = await rebuild.rebuild(database, service.store_of(settings))
    finally:
        await database.close()
    log.info("%d adapters were added, %d notes could not be used", added, passed)
    return 0 if not passed else 1
