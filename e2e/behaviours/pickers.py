"""Routers with an endpoint picker for Envoy, and requests through it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from e2e.behaviours.test_routing import a_router, answers
from e2e.controlplane.processes import free_ports
from e2e.envoy import EnvoyUnavailable, find_envoy
from e2e.world import World
from e2e.world.world import SYSTEM_NAMESPACE, eventually


def envoy_or_skip() -> None:
    try:
        find_envoy()
    except EnvoyUnavailable as error:
        pytest.skip(f"there is no Envoy: {error}")


@contextmanager
def a_picker(world: World, kubeconfig: Path, *more: str, port: int = 0) -> Iterator[tuple[int, Any]]:
    """A router with an endpoint picker: the picker's port (any if 0), and the process."""
    port = port or free_ports(1)[0]
    flags = (
        "--picker-port",
        str(port),
        "--picker-self-signed",
        "--picker-drain-seconds",
        "0",
        "--requests-namespace",
        SYSTEM_NAMESPACE,
    )
    with a_router(world, kubeconfig, free_ports(1)[0], *flags, *more) as (url, process):
        eventually(lambda: answers(url), what=["the router answers"])
        yield port, process


def status_of(url: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, Any]:
    """Status, headers, and the body read as JSON where it is."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, {"Content-Type": "application/json"} | headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            status, found, text = answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            status, found, text = error.code, error.headers, error.read()
    return status, found, json.loads(text) if text.startswith(b"{") else text
