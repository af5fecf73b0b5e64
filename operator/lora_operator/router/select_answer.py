"""A question of POST /v1/select, and its answer, in the words of the wire."""

from __future__ import annotations

from typing import Any

from lora_operator.router.deciding import Chosen, Decider, Refused
from lora_operator.router.problems import Problem
from lora_operator.router.request_text import said
from lora_operator.router.selecting import Method, NoModel, Selected, Selector
from lora_operator.router.wire import SelectRequest
from lora_operator.router.worker import Busy

RETRY_SECONDS = 1


async def selected(selector: Selector, asked: SelectRequest) -> Selected:
    """Raises Problem."""
    method = Method(asked.method)
    if method is Method.SEMANTIC and (asked.threshold or 0.0) > 1.0:
        raise Problem("bad-request", f"threshold is {asked.threshold:g}; method semantic has scores of at most 1")
    chat = ((one.role, one.text) for one in reversed(asked.messages or ()))
    text = asked.text if asked.text is not None else said(chat)
    try:
        return await selector.select(text, selector.among(asked.base_model, asked.namespace), method, asked.threshold)
    except NoModel as error:
        what = "this router has no embedding model: start it with --embedding-model, or ask for method keywords"
        raise Problem("bad-request", what) from error
    except Busy as error:
        raise Problem(
            "too-many-selections", "ask another replica, or this one again", retry_after_seconds=RETRY_SECONDS
        ) from error


def select_json(found: Selected, asked: SelectRequest, decider: Decider, version: str) -> dict[str, Any]:
    """The model SelectAnswer. An adapter that is not loaded has no endpoint, but the reason; nothing loads it."""
    answer: dict[str, Any] = {
        "adapter": None,
        "baseModel": asked.base_model,
        "method": found.method.value,
        "score": round(found.score, 6),
        "matched": list(found.matched),
        "version": version,
    }
    if found.subject is None:
        return answer
    answer |= {"adapter": found.subject.name, "namespace": found.subject.namespace}
    where = decider.choose(found.subject.name, found.subject.namespace)
    if isinstance(where, Chosen):
        one = where.endpoint
        answer["endpoint"] = {"pod": one.pod, "address": one.address, "engineName": one.engine_name, "ready": True}
    elif isinstance(where, Refused):
        answer |= {"reason": where.reason, "message": where.message}
    return answer
