"""Connections to the API server: one that goes silent costs one request, and not one after the other."""

from __future__ import annotations

from urllib.request import getproxies_environment

from aiohttp import TCPConnector
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.rest import RESTClientObject

# shorter than a request waits for its answer: once one has waited in vain, none is used again that was open before it
KEEPALIVE_SECONDS = 4.0


class _Rest(RESTClientObject):  # type: ignore[misc]
    def _create_connector(self) -> TCPConnector:
        return TCPConnector(limit=self.maxsize, ssl=self.ssl_context, keepalive_timeout=KEEPALIVE_SECONDS)


def client_of(configuration: Configuration) -> ApiClient:
    """A client with a pool of connections of its own, to be closed."""
    if not getproxies_environment().keys() - {"no"}:
        # else the environment is asked for a proxy, and a file for a password, in threads, for each request
        configuration.client_session_kwargs = {"trust_env": False}
    client = ApiClient(configuration)
    client.rest_client = _Rest(configuration)
    return client
