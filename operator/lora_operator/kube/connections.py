"""Connections to the API server: one that goes silent costs one request, and not one after the other."""

from __future__ import annotations

import copy
from pathlib import Path
from urllib.request import getproxies_environment

from aiohttp import TCPConnector
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.rest import RESTClientObject

# shorter than a request waits for its answer: once one has waited in vain, none is used again that was open before it
KEEPALIVE_SECONDS = 4.0


class _Rest(RESTClientObject):  # type: ignore[misc]
    """Takes over what another has read, which takes milliseconds, and none of its connections."""

    def __init__(self, other: RESTClientObject, read_from: tuple[object, ...]) -> None:
        self.__dict__.update(vars(other))
        self.pool_manager = self.retry_client = None
        self.read_from = read_from

    def _create_connector(self) -> TCPConnector:
        return TCPConnector(limit=self.maxsize, ssl=self.ssl_context, keepalive_timeout=KEEPALIVE_SECONDS)


def client_of(configuration: Configuration) -> ApiClient:
    """A client with a pool of connections of its own, to be closed."""
    if not getproxies_environment().keys() - {"no"}:
        # else the environment is asked for a proxy, and a file for a password, in threads, for each request
        configuration.client_session_kwargs = {"trust_env": False}
    files = _files(configuration)  # before they are read: what changes meanwhile is read again
    client = ApiClient(configuration)
    client.rest_client = _Rest(client.rest_client, files)
    return client


def another(client: ApiClient) -> ApiClient:
    """A client like this one, with a pool of connections of its own, to be closed.

    Each watch that breaks needs one. CA and certificate are read again only where their files are others by now.
    """
    files = _files(client.configuration)
    if getattr(client.rest_client, "read_from", files) != files:
        return client_of(client.configuration)
    made = copy.copy(client)
    made.rest_client = _Rest(client.rest_client, files)
    return made


def _files(configuration: Configuration) -> tuple[object, ...]:
    """Which files its CA and certificate are."""
    found: list[object] = []
    for path in (configuration.ssl_ca_cert, configuration.cert_file, configuration.key_file):
        try:
            status = Path(path).stat() if path else None
        except OSError:
            status = None
        found.append(status and (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(found)
