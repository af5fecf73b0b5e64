"""`kubectl lora` in the loop of a test, and an API server on loopback for it."""

from __future__ import annotations

import importlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from lora_operator.plugin.arguments import parser
from lora_operator.plugin.main import complain
from lora_operator.plugin.problems import PluginError
from tests.core.api_server import ApiServer, an_api_server
from tests.plugin.a_fleet import NAMESPACE


@dataclass(frozen=True)
class Said:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        assert self.status in (0, 3), self.err
        return json.loads(self.out)

    @property
    def lines(self) -> list[list[str]]:
        """The words of each line."""
        return [line.split() for line in self.out.splitlines()]


Lora = Callable[..., Awaitable[Said]]


@pytest.fixture
async def api() -> AsyncIterator[ApiServer]:
    async with an_api_server() as server:
        yield server


@pytest.fixture
def kubeconfig(api: ApiServer, tmp_path: Path) -> Path:
    return write_kubeconfig(tmp_path / "kubeconfig", api.kube._client.configuration.host)


def write_kubeconfig(path: Path, url: str) -> Path:
    """With two contexts: `here`, in the namespace of the fleet, and `away`, where nothing listens."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [
            {"name": "here", "cluster": {"server": url}},
            {"name": "away", "cluster": {"server": "http://127.0.0.1:1"}},
        ],
        "users": [{"name": "me", "user": {"token": "my-own-token"}}],
        "contexts": [
            {"name": "here", "context": {"cluster": "here", "user": "me", "namespace": NAMESPACE}},
            {"name": "away", "context": {"cluster": "away", "user": "me"}},
        ],
    }
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def lora(kubeconfig: Path, capsys: pytest.CaptureFixture[str]) -> Lora:
    """Run a command as `main` does; it has a loop of its own, and servers of a test live in the test's."""

    async def run(*arguments: str) -> Said:
        capsys.readouterr()
        parsed = parser().parse_args(list(arguments))
        if getattr(parsed, "kubeconfig", "") is None:
            parsed.kubeconfig = str(kubeconfig)
        try:
            status = await importlib.import_module(parsed.module).run(parsed)
        except PluginError as error:
            status = complain(error)
        return Said(status, *capsys.readouterr())

    return run
