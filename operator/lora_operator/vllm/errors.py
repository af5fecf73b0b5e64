"""What can go wrong between the operator and one engine.

    EngineError                   .reason (CamelCase), .engine (address:port), .retryable
     ├─ EngineUnreachable         no connection, or it broke; .refused, .maybe_received, .own_shortage
     ├─ EngineTimeout             accepted the request and did not answer in time
     ├─ EngineUnauthorized        401 or 403
     ├─ EngineFailing             5xx to a question that a sound engine always answers; .status
     ├─ EngineSleeping            it answers, and has put its weights away
     ├─ EngineAnswerInvalid       an answer that no vLLM release gives
     │   └─ EngineAnswerTooLarge  one that is longer than is read
     ├─ ModelListTooLong          /v1/models lists more than is read; the engine serves on
     ├─ RuntimeUpdatingDisabled   the load and unload routes do not exist there
     ├─ LoadRefused               .status, .type, .detail
     ├─ UnloadRefused             .status, .type, .detail; the name is still listed
     └─ NameTakenByOther          .root: the name is listed there with another path, or is the base model's

`retryable` says whether the same request may succeed later without anybody changing anything. Messages are one line,
bounded, and hold no key, link signature or password.
"""

from __future__ import annotations

import re
from typing import ClassVar

DETAIL_MAX = 300  # characters of an engine's own words that are passed on: status and events have little room
WHOLE_WORD_BELOW = 6
_URL_SECRETS = re.compile(
    r"(?P<scheme>\b[a-zA-Z][a-zA-Z0-9+.-]*://)(?:[^\s/@'\"]*@)?(?P<rest>[^\s?'\"]*)(?:\?[^\s'\"]*)?"
)
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+|\s{2,}")


def bounded(text: str, *secrets: str | None, limit: int = DETAIL_MAX) -> str:
    """`text` as one printable line of at most `limit` characters, without `secrets` and without what URLs may hide."""
    text = text[: limit * 20]  # an engine may answer megabytes
    for secret in secrets:
        if secret and len(secret) >= WHOLE_WORD_BELOW:
            text = text.replace(secret, "***")
        elif secret:  # a key such as "k" must not take every k out of a message
            text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "***", text)
    text = _URL_SECRETS.sub(r"\g<scheme>\g<rest>", text)
    text = _UNPRINTABLE.sub(" ", text).strip()
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


class EngineError(Exception):
    """Base of everything that an engine client raises. `str(error)` is a whole sentence that names the engine."""

    reason: ClassVar[str] = "EngineError"

    def __init__(self, engine: str, message: str, *, retryable: bool = True) -> None:
        super().__init__(f"engine {engine}: {message}")
        self.engine = engine
        self.retryable = retryable


class EngineUnreachable(EngineError):
    """No usable connection. `refused`: nobody listens, as while vLLM starts or after it died.

    `maybe_received` is true where the connection broke after the request was sent, so that it may have had its effect.
    `own_shortage`: it was this process that had no file descriptor or port left, which says nothing about the engine.
    """

    reason = "EngineUnreachable"

    def __init__(
        self,
        engine: str,
        message: str,
        *,
        refused: bool = False,
        maybe_received: bool = False,
        own_shortage: bool = False,
    ) -> None:
        super().__init__(engine, message)
        self.refused = refused
        self.maybe_received = maybe_received
        self.own_shortage = own_shortage


class EngineTimeout(EngineError):
    """The request was sent and not answered in time. It may still have its effect later."""

    reason = "EngineTimeout"

    def __init__(self, engine: str, what: str, seconds: float) -> None:
        effect = "" if what.startswith("GET ") else "the request may still take effect, as /v1/models will tell; "
        super().__init__(
            engine, f"did not answer {what} within {seconds:g} s; {effect}if this goes on, look at the container's log"
        )
        self.seconds = seconds


class EngineUnauthorized(EngineError):
    """The engine wants an API key, or another one than it was given."""

    reason = "EngineUnauthorized"

    def __init__(self, engine: str, message: str) -> None:
        super().__init__(engine, message, retryable=False)


class EngineFailing(EngineError):
    """The engine, or a proxy before it, answers 5xx to a mere question."""

    reason = "EngineFailing"

    def __init__(self, engine: str, what: str, status: int, said: str) -> None:
        super().__init__(engine, f"{said} to {what}; see the log of the vLLM container")
        self.status = status


class EngineSleeping(EngineError):
    """The engine was told to sleep: it lists its models, and answers no request for them."""

    reason = "EngineSleeping"

    def __init__(self, engine: str) -> None:
        super().__init__(engine, "sleeps (GET /is_sleeping): nothing is loaded there until POST /wake_up")


class EngineAnswerInvalid(EngineError):
    """What listens there does not answer like vLLM."""

    reason = "EngineAnswerInvalid"


class EngineAnswerTooLarge(EngineAnswerInvalid):
    """What listens there answers more than is read."""

    def __init__(self, engine: str, what: str, bytes_max: int) -> None:
        super().__init__(
            engine,
            f"does not answer {what} like vLLM (more than {bytes_max} bytes); check that the annotation "
            "production-stack.vllm-project/port, or --port, names vLLM's own port",
        )


class ModelListTooLong(EngineError):
    """The engine lists so much that it is not read. Nothing is known of it but that it answers."""

    reason = "ModelListTooLong"

    def __init__(self, engine: str, what: str) -> None:
        super().__init__(
            engine,
            f"lists too much under /v1/models ({what}): it serves what it has, and nothing is loaded or unloaded "
            "there; unload what is not needed, or restart it",
        )


class RuntimeUpdatingDisabled(EngineError):
    """The engine runs without VLLM_ALLOW_RUNTIME_LORA_UPDATING, so it cannot load or unload anything."""

    reason = "RuntimeUpdatingDisabled"

    def __init__(self, engine: str) -> None:
        super().__init__(
            engine,
            "has no routes to load and unload adapters; set the environment variable "
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True in the vLLM container",
            retryable=False,
        )


class _Refused(EngineError):
    def __init__(
        self, engine: str, message: str, *, status: int, type: str | None, detail: str, retryable: bool
    ) -> None:
        super().__init__(engine, message, retryable=retryable)
        self.status = status
        self.type = type
        self.detail = detail


class LoadRefused(_Refused):
    """The engine answered that it does not load the adapter, and does not list it."""

    reason = "LoadRefused"


class UnloadRefused(_Refused):
    """The engine answered that it does not unload the adapter, and still lists it."""

    reason = "UnloadRefused"


class NameTakenByOther(EngineError):
    """The name is listed there already: with another path (`root`), or as a base model (`is_base`)."""

    reason = "NameTaken"

    def __init__(self, engine: str, name: str, root: str, *, is_base: bool) -> None:
        root = bounded(root)
        what = "is that of its base model; rename the adapter" if is_base else f"is already loaded from {root}"
        hint = "" if is_base else "; unload that one first, or use another name"
        super().__init__(engine, f"cannot load adapter {bounded(name)!r}: the name {what}{hint}", retryable=not is_base)
        self.name = name
        self.root = root
        self.is_base = is_base
