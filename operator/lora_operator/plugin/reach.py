"""Asks engines and agents: through the API server's proxy with the user's rights, or at the pods' own addresses."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from lora_operator.agent_api.wire import TOKEN_HEADER
from lora_operator.informers.pod_description import PodDescription
from lora_operator.informers.secrets import read_secret
from lora_operator.kube.client import KubeError
from lora_operator.plugin.connect import ANSWER_SECONDS, Cluster, explained
from lora_operator.plugin.problems import PluginError
from lora_operator.vllm.answers import Endpoint

TOKEN_KEY = "token"  # noqa: S105 - the name of a Secret's entry
AT_ONCE = 16


class NoAnswer(Exception):
    """A pod could not be asked, or refused; the message says why and what to do. `status` is 0 without an answer."""

    def __init__(self, message: str, status: int = 0, reason: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    body: bytes


class Reach:
    """Many pods at a time, a few at once."""

    def __init__(self, cluster: Cluster, session: aiohttp.ClientSession | None) -> None:
        self._cluster = cluster
        self._session = session
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def get(self, pod: PodDescription, port: int, path: str) -> bytes:
        """What the pod answers. Raises NoAnswer."""
        return await self._ask("GET", pod, port, path, {})

    async def agent(self, method: str, pod: PodDescription, path: str, token: str) -> Any:
        """What the pod's agent answers, None for nothing. Raises NoAnswer."""
        if pod.agent_port is None:
            raise NoAnswer("it has no agent")
        text = await self._ask(method, pod, pod.agent_port, path, {TOKEN_HEADER: token})
        try:
            return json.loads(text) if text else None
        except ValueError:
            raise NoAnswer(f"what listens on port {pod.agent_port} is no agent of ours") from None

    async def _ask(self, method: str, pod: PodDescription, port: int, path: str, headers: Mapping[str, str]) -> bytes:
        async with self._turns:
            reply = await (
                self._directly(method, pod, port, path, headers)
                if self._session is not None
                else self._by_proxy(method, pod, port, path, headers)
            )
        if reply.status < 400:
            return reply.body
        reason, message = _problem(reply.body)
        if reply.status == 403 and self._session is None:
            raise NoAnswer(f"{message}; ask for the right {method.lower()} on pods/proxy, or use --direct", 403)
        if reply.status == 401:
            raise NoAnswer("its agent does not accept the token: is it the Secret that the pod mounts?", 401)
        hint = "; from inside the cluster's network --direct may do" if self._session is None and not reason else ""
        raise NoAnswer((message or f"it answers {reply.status}") + hint, reply.status, reason)

    async def _by_proxy(
        self, method: str, pod: PodDescription, port: int, path: str, headers: Mapping[str, str]
    ) -> _Reply:
        try:
            return _Reply(
                *await self._cluster.through_proxy(method, pod.namespace, pod.name, port, path, headers)
            )  # fmt: skip
        except KubeError as error:
            raise NoAnswer(str(error)) from error

    async def _directly(
        self, method: str, pod: PodDescription, port: int, path: str, headers: Mapping[str, str]
    ) -> _Reply:
        assert self._session is not None
        if pod.ip is None:
            raise NoAnswer("it has no address yet")
        url = f"http://{Endpoint(pod.ip, port)}{path}"
        try:
            async with self._session.request(method, url, headers=headers, allow_redirects=False) as response:
                return _Reply(response.status, await response.read())
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise NoAnswer(f"{url} does not answer ({type(error).__name__})") from error


@contextlib.asynccontextmanager
async def reaching(cluster: Cluster, arguments: argparse.Namespace) -> AsyncIterator[Reach]:
    """As the command line says."""
    session: contextlib.AbstractAsyncContextManager[aiohttp.ClientSession | None] = contextlib.nullcontext()
    if arguments.direct:
        session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS), trust_env=False)
    async with session as opened:
        yield Reach(cluster, opened)


async def token_of(cluster: Cluster, namespace: str, arguments: argparse.Namespace) -> str:
    """The token that agents of this namespace accept. Raises PluginError."""
    if arguments.token_file:
        return _in_file(Path(arguments.token_file))
    where = f"Secret {namespace}/{arguments.token_secret}"
    try:
        values = read_secret(await cluster.secret(namespace, arguments.token_secret))
    except KubeError as error:
        raise explained(error, f"read {where}, which has the agents' token (--token-secret, --token-file)") from error
    if TOKEN_KEY not in values:
        raise PluginError(f"{where} has no {TOKEN_KEY}: name another with --token-secret, or use --token-file")
    return values[TOKEN_KEY]


def _in_file(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise PluginError(f"cannot read the agents' token in {path}: {error}") from error


def _problem(body: bytes) -> tuple[str, str]:
    """Reason and message of an agent's problem; the API server's own refusals have no reason of ours."""
    try:
        said = json.loads(body)
        if said.get("kind") == "Status":
            return "", str(said.get("message") or "")[:500]
        return str(said.get("reason") or ""), str(said.get("message") or "")[:500]
    except (ValueError, AttributeError):
        return "", body[:200].decode("utf-8", "replace").strip()
