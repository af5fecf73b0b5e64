"""From what HTTP clients, servers and disks say to a FetchError: a stable reason, and a sentence without secrets.

Foreign exceptions may carry URLs: they are read here, and never chained, shown or logged.
"""

from __future__ import annotations

import errno
import ssl
from http import HTTPStatus

import aiohttp

from lora_operator.cache.store_error import store_error
from lora_operator.fetch.errors import FetchError


class Hiccup(Exception):
    """The same request may well succeed when it is made again. Never leaves this package; `error` may."""

    def __init__(self, error: FetchError) -> None:
        super().__init__(error.message)
        self.error = error


class StaleLink(Hiccup):
    """The same request may succeed with a fresh link."""


# 400: S3 says so of a link whose session token has run out.
_OF_LINKS = frozenset({400, 401, 403, 404, 410})
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504, 509, 520, 521, 522, 523, 524})
_ABOUT_STATUS = {
    400: ("RequestRefused", "answered 400: check that the link's credentials are still valid", False),
    401: ("Unauthorized", "wants other credentials (401): correct the Secret", False),
    403: ("Forbidden", "does not let these credentials read it (403): grant read access, or correct the Secret", False),
    404: ("NotFound", "has no such file any more (404): put it back, or correct the source", False),
    410: ("NotFound", "has removed the file for good (410): put it back, or correct the source", False),
    412: ("SourceChanged", "holds other content than was inspected (412): it is read again", True),
    416: ("SizeMismatch", "has a file of another size than was inspected (416): it is read again", True),
    429: ("RateLimited", "asks for fewer requests (429): try later, or raise the limit there", True),
}


def of_status(what: str, status: int, retry_after_seconds: float | None) -> FetchError | Hiccup:
    """What an answer means that is neither 200 nor 206. `what`: file, adapter and host."""
    reason, text, retryable = _ABOUT_STATUS.get(status, ("", "", False))
    if not reason and status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        reason, text, retryable = "ServerError", f"failed ({status}): it is tried again, else see its own log", True
    elif not reason:
        reason, text = "RequestRefused", f"answered {status}, which no file comes with: check the link"
    error = FetchError(reason, f"{what} {text}", retryable=retryable, retry_after_seconds=retry_after_seconds)
    if status in _OF_LINKS:
        return StaleLink(error)
    return Hiccup(error) if status in _PASSING else error


def of_client(what: str, error: Exception) -> FetchError | Hiccup:
    """What it means that no answer came, or not all of it. Takes the exceptions of aiohttp, TimeoutError, OSError."""
    if isinstance(error, FetchError):  # of the rules for hosts
        return FetchError(error.reason, f"{what}: {error.message}", retryable=error.retryable)
    reason, text, passing = _client_reason(error)
    said = FetchError(reason, f"{what} {text}", retryable=passing)
    return Hiccup(said) if passing else said


def _client_reason(error: Exception) -> tuple[str, str, bool]:
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return "Unreachable", "cannot be reached, as its proxy does not answer: check HTTPS_PROXY and HTTP_PROXY", True
    if isinstance(error, aiohttp.ClientHttpProxyError):
        text = f"cannot be reached, as its proxy answers {error.status}: have it let this host through, or set NO_PROXY"
        return "Unreachable", text, True
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return (
            "TlsFailed",
            "shows a certificate that is not trusted: correct it, or trust its issuer by --ca-file",
            False,
        )
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return "TlsFailed", "does not speak TLS as it should: check the URL's scheme and port", True
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "HostNotFound", "has no address (DNS): correct the host's name, or the cluster's DNS", True
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return "ConnectTimedOut", "accepts no connection in time: check that it runs and that the network lets it", True
    if isinstance(error, TimeoutError):
        return "Stalled", "stopped sending: it is asked again, else check the network and the server", True
    if isinstance(error, aiohttp.InvalidURL):
        return "ForbiddenUrl", "was given by a URL that is none: correct it", False
    if isinstance(error, OSError) and error.errno == errno.ECONNREFUSED:
        return "ConnectionRefused", "refuses connections: check that it runs, and its port", True
    if isinstance(error, aiohttp.ClientConnectorError):
        return "Unreachable", "cannot be reached: check network, routes and policies", True
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError | OSError):
        return "ConnectionLost", "broke the connection off: it is asked again, else check the server", True
    return "BadAnswer", "answers with something that is not HTTP: check the URL and its port", True


def of_disk(what: str, error: OSError) -> FetchError:
    """What the operating system said while `what` was done."""
    said = store_error(what, error)
    return FetchError(said.reason, said.message, retryable=said.retryable)
