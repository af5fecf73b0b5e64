"""`lora-operator run`: the controller itself."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import resource
import secrets
import socket
from typing import Any

from lora_operator.cli.stopping import run
from lora_operator.kube.client import Kube, KubeError
from lora_operator.kube.lease import Elector, LeaseLost, LeaseTimes
from lora_operator.kube.own_namespace import own_namespace
from lora_operator.manager.operator import Operator
from lora_operator.process.components import ComponentExited
from lora_operator.process.event_loop import Blocks
from lora_operator.process.garbage import collected_in_steps
from lora_operator.settings.operator import Settings, add_arguments, from_arguments
from lora_operator.sources.libraries import missing_libraries
from lora_operator.telemetry import logs
from lora_operator.telemetry.server import ServeError

log = logging.getLogger(__name__)

FILES = 65_536  # open files and connections


def add(commands: Any) -> None:
    """Register the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "run",
        help="run the controller until it is told to stop (SIGTERM)",
        description="Watches LoraAdapter resources and pods, and loads and unloads adapters so that both agree.",
    )
    add_arguments(parser)
    parser.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> int:
    settings = from_arguments(arguments)
    logs.configure(settings.log_format, settings.log_level)
    if absent := missing_libraries():
        names = ", ".join(absent)
        log.error("cannot start: libraries of sources are missing (%s): pip install 'lora-operator[sources]'", names)
        return 1
    _allow_many_connections()
    blocks = Blocks()
    try:
        with collected_in_steps():
            return run(lambda stop: _run(settings, blocks, stop), blocks.new_loop)
    except LeaseLost as error:
        log.error("no longer leading, and so I end, to be started anew and stand by: %s", error)
        return 1
    except ComponentExited as error:
        log.error("%s, and so do I, to be started anew", error, exc_info=error.__cause__)
        return 1
    except (KubeError, ServeError) as error:
        log.error("cannot start: %s", error)
        return 1


def _allow_many_connections() -> None:
    """Several to each pod; many container runtimes begin with 1,024 for a process that may have far more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def elector(settings: Settings, kube: Kube) -> Elector:
    """An elector for this process. A pod's name is its identity: the pod's next container may go on at once."""
    name = os.environ.get("POD_NAME")
    identity = name or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    namespace = own_namespace(settings.lease_namespace)
    seconds = settings.lease_seconds
    times = LeaseTimes(seconds, seconds * 2 / 3, min(2.0, seconds / 7.5))
    return Elector(kube, namespace, settings.lease_name, identity, times=times)


async def _run(settings: Settings, blocks: Blocks, stop: asyncio.Event) -> int:
    kube = await Kube.connect(settings.kubeconfig)
    apart = kube.with_own_connections()
    operator = Operator(settings, kube, elector(settings, apart) if settings.leader_election else None)
    blocks.show_in(operator.metrics.registry)
    try:
        await operator.run(stop)
    finally:
        await apart.close()
    return 0
