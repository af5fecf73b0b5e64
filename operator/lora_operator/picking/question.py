"""What is asked about one request."""

from __future__ import annotations

from dataclasses import dataclass

from lora_operator.router.prompt_blocks import NO_PROMPT, Prompt


@dataclass(frozen=True, slots=True)
class Question:
    """`model` is empty where the request has no body: any pod will do. `subset`: the endpoints that are allowed;
    `prompt`: by which a pod that has its beginning in its cache is preferred; `owners`: whose adapters may be chosen,
    None: everybody's. `selected`: the adapter, where it was chosen by what the request says."""

    model: str
    namespace: str
    subset: frozenset[str] | None = None
    prompt: Prompt = NO_PROMPT
    owners: frozenset[str] | None = None
    selected: str = ""
