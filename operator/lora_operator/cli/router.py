"""`lora-operator router`: the routing table and its API alone, as many replicas as one likes."""

from __future__ import annotations

import argparse
import asyncio
import logging
from pathlib import Path
from typing import Any

from lora_operator.cli.stopping import run
from lora_operator.kube.client import Kube, KubeError
from lora_operator.manager.router import run_router
from lora_operator.process.components import ComponentExited
from lora_operator.process.garbage import collected_in_steps
from lora_operator.router.semantic import EmbeddingModelError, Semantic, load_model
from lora_operator.router.settings import ENVIRONMENT_PREFIX, RouterSettings, from_arguments
from lora_operator.settings.options import add_options
from lora_operator.telemetry import logs
from lora_operator.telemetry.server import ServeError

log = logging.getLogger(__name__)


def add(commands: Any) -> None:
    """Register the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "router",
        help="serve the router API alone, until it is told to stop (SIGTERM)",
        description="Reads the status of LoraAdapters and the state of pods, and tells routers which pod answers for "
        "which adapter. It changes nothing but a record of who was asked for; any number of replicas may run.",
    )
    add_options(parser, RouterSettings, ENVIRONMENT_PREFIX)
    parser.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> int:
    settings = from_arguments(arguments)
    logs.configure(settings.log_format, settings.log_level)
    try:
        with collected_in_steps():
            return run(lambda stop: _run(settings, stop))
    except ComponentExited as error:
        log.error("%s, and so do I, to be started anew", error, exc_info=error.__cause__)
        return 1
    except (KubeError, ServeError, EmbeddingModelError) as error:
        log.error("cannot start: %s", error)
        return 1


async def _run(settings: RouterSettings, stop: asyncio.Event) -> int:
    semantic = None
    if settings.embedding_model:
        # in a thread: a signal must be noticed meanwhile
        semantic = Semantic(await asyncio.to_thread(load_model, Path(settings.embedding_model)))
    await run_router(settings, await Kube.connect(settings.kubeconfig), stop, semantic)
    return 0
