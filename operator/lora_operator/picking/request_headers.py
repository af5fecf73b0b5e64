"""What Envoy says about a request before its body comes: whose it is, what for, and where it may go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

NAMESPACE_HEADER = "x-lora-namespace"
SUBSET_SPACE, SUBSET_KEY = "envoy.lb.subset_hint", "x-gateway-destination-endpoint-subset"
READING = frozenset({"GET", "HEAD", "OPTIONS"})
# parts of paths by which vLLM loads and unloads adapters: what the operator has placed is not for clients to change
MANAGING = frozenset({"load_lora_adapter", "unload_lora_adapter", "adapters"})


@dataclass(frozen=True, slots=True)
class Headers:
    """`namespace`: what the client or the gateway says, empty if nothing. `has_body`: whether one follows.
    `content_type`, `authorization`: empty if there is none, or more than one."""

    method: str
    path: str
    namespace: str
    has_body: bool
    has_length: bool
    content_type: str = ""
    authorization: str = ""
    session: str = ""

    @property
    def manages(self) -> bool:
        """Whether it would change which adapters an engine holds."""
        path = unquote(self.path.partition("?")[0])
        return not MANAGING.isdisjoint(path.split("/"))


def read_headers(message: Any, session_header: str = "") -> Headers:
    """Of a `HttpHeaders` message. `session_header`: in lower case; empty: none."""
    method = path = namespace = session = ""
    once: dict[str, list[str]] = {"content-type": [], "authorization": []}
    has_length = False
    for one in message.headers.headers:
        key = one.key
        if key == ":method":
            method = _value(one)
        elif key == ":path":
            path = _value(one)
        elif key == NAMESPACE_HEADER:
            namespace = _value(one)
        elif key == "content-length":
            has_length = True
        elif key in once:
            once[key].append(_value(one))
        if key == session_header:
            session = _value(one)
    content_type, authorization = (values[0] if len(values) == 1 else "" for values in once.values())
    return Headers(method, path, namespace, not message.end_of_stream, has_length, content_type, authorization, session)


def read_subset(context: Any) -> frozenset[str] | None:
    """Of a `Metadata` message: the endpoints (ip:port) that may be chosen; None: all of them."""
    space = context.filter_metadata.get(SUBSET_SPACE)
    value = None if space is None else space.fields.get(SUBSET_KEY)
    if value is None:
        return None
    if value.WhichOneof("kind") == "string_value":
        return frozenset(part.strip() for part in value.string_value.split(",") if part.strip())
    return frozenset(one.string_value for one in value.list_value.values)


def _value(header: Any) -> str:
    """Newer releases of Envoy fill one of the two, older ones the other."""
    return header.raw_value.decode("utf-8", "replace") if header.raw_value else str(header.value)
