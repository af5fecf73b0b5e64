"""The calls to the API server that the pod runner makes: plain JSON, and a watch that says when to list again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from kubernetes.aio.client.api_client import ApiClient

REQUEST_SECONDS = 15.0
WATCH_SECONDS = 240
CLOSE_SECONDS = 2.0
JSON = "application/json"
STRATEGIC = "application/strategic-merge-patch+json"
USER_AGENT = "lora-operator-test-kubelet"

Json = dict[str, Any]


class ApiError(Exception):
    """The API server refused (`status` is the HTTP status) or could not be asked (0)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Api:
    """A JSON client of one API server."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self._under_way: set[asyncio.Task[Json]] = set()

    @classmethod
    async def connect(cls, kubeconfig: Path) -> Api:
        # imported here because it takes longer than all that the other commands of this package do
        from kubernetes.aio import config
        from kubernetes.aio.client.api_client import ApiClient
        from kubernetes.aio.client.configuration import Configuration

        configuration = Configuration()
        await config.load_kube_config(config_file=str(kubeconfig), client_configuration=configuration)
        configuration.connection_pool_maxsize = 64
        return cls(ApiClient(configuration))

    async def close(self) -> None:
        """Let requests that are under way end, then cut what is left: the watches."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=CLOSE_SECONDS)
        await self._client.close()

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> Json:
        return await self._call("GET", path, query=query)

    async def create(self, path: str, body: Json) -> Json:
        return await self._call("POST", path, body=body)

    async def replace(self, path: str, body: Json) -> Json:
        return await self._call("PUT", path, body=body)

    async def patch(self, path: str, body: Json) -> Json:
        return await self._call("PATCH", path, body=body, content_type=STRATEGIC)

    async def delete(self, path: str, body: Json) -> Json:
        return await self._call("DELETE", path, body=body)

    async def watch(self, path: str, query: Mapping[str, str], version: str) -> AsyncGenerator[tuple[str, Json], None]:
        """Changes since `version` as (type, object), until the server ends the watch.

        Raises:
            ApiError: the connection broke, or the version is too old (410): list again.
        """
        asked = {**query, "watch": "true", "resourceVersion": version, "allowWatchBookmarks": "true"}
        asked["timeoutSeconds"] = str(WATCH_SECONDS)
        # without a read time-out a server that vanished would never be noticed; the server ends each watch itself
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=REQUEST_SECONDS, sock_read=WATCH_SECONDS + 60)
        response = await self._send("GET", path, asked, None, JSON, timeout)
        try:
            if response.status >= 400:
                raise ApiError(response.status, f"watch {path}: {_message(await response.read())}")
            async for line in response.content:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise ApiError(int(event["object"].get("code", 0)), f"watch {path}: {event['object']}")
                yield event["type"], event["object"]
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise ApiError(0, f"watch {path}: {type(error).__name__}: {error}") from error
        finally:
            response.close()

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        content_type: str = JSON,
    ) -> Json:
        # A request whose caller is cancelled goes on to its end: cutting it would leave a TLS connection half closed
        # that nobody knows any more, which an event loop that ends soon afterwards never gets to close.
        request = asyncio.create_task(self._ask(method, path, query, body, content_type))
        self._under_way.add(request)
        request.add_done_callback(self._ended)
        return await asyncio.shield(request)

    def _ended(self, request: asyncio.Task[Json]) -> None:
        self._under_way.discard(request)
        if not request.cancelled():
            request.exception()  # seen, even where the caller no longer waits for it

    async def _ask(
        self, method: str, path: str, query: Mapping[str, str] | None, body: Json | None, content_type: str
    ) -> Json:
        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS)
        response = await self._send(method, path, query, body, content_type, timeout)
        try:
            text = await response.read()
        except (aiohttp.ClientError, OSError) as error:
            raise ApiError(0, f"{method} {path}: {type(error).__name__}: {error}") from error
        if response.status >= 400:
            raise ApiError(response.status, f"{method} {path}: {response.status} {_message(text)}")
        return dict(json.loads(text))

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Json | None,
        content_type: str,
        timeout: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        verb, url, headers, content, _ = await self._client.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params={"Accept": JSON, "Content-Type": content_type, "User-Agent": USER_AGENT},
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            answer = await self._client.call_api(verb, url, headers, content, _request_timeout=timeout)
        except (aiohttp.ClientError, OSError, RuntimeError) as error:  # the last: the session is closed
            raise ApiError(0, f"{method} {path}: {type(error).__name__}: {error}") from error
        response: aiohttp.ClientResponse = answer.response
        return response


def _message(text: bytes) -> str:
    try:
        return str(json.loads(text).get("message", ""))[:500]
    except (ValueError, AttributeError):
        return text[:200].decode("utf-8", "replace")
