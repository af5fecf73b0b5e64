"""`lora-operator agent`: the sidecar in a vLLM pod."""

from __future__ import annotations

import argparse
import asyncio
import logging
from typing import Any

from lora_operator.agent.app import run_agent
from lora_operator.agent.settings import ENVIRONMENT_PREFIX, AgentSettings, from_arguments
from lora_operator.cli.stopping import run
from lora_operator.settings.options import add_options
from lora_operator.telemetry import logs
from lora_operator.telemetry.server import ServeError

log = logging.getLogger(__name__)


def add(commands: Any) -> None:
    """Register the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "agent",
        help="run the sidecar that fetches adapters onto a pod's disk, until it is told to stop (SIGTERM)",
        description="Fetches what the operator orders onto a disk that the vLLM container of the pod mounts too, and "
        "keeps that disk within its budget. It needs no credentials of sources, only the operator's token.",
    )
    add_options(parser, AgentSettings, ENVIRONMENT_PREFIX)
    parser.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> int:
    settings = from_arguments(arguments)
    logs.configure(settings.log_format, settings.log_level)
    try:
        return run(lambda stop: _run(settings, stop))
    except ServeError as error:
        log.error("cannot start: %s", error)
        return 1


async def _run(settings: AgentSettings, stop: asyncio.Event) -> int:
    await run_agent(settings, stop)
    return 0
