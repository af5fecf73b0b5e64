"""`model: auto`: the adapter that a request's text is for, out of those that its caller may ask for.

A name like any other where an adapter or a base model really has it: nobody's requests go elsewhere because of this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from lora_operator.picking.answers import Refusal
from lora_operator.picking.base_models import Bases
from lora_operator.picking.question import Question
from lora_operator.router.near_names import owned
from lora_operator.router.request_text import request_text
from lora_operator.router.selecting import Method, Selector
from lora_operator.router.table import RoutingTable
from lora_operator.router.topics import Subjects
from lora_operator.router.worker import Busy

RETRY_SECONDS = 1


@dataclass(frozen=True, slots=True)
class Automatic:
    """`name`: the model that stands for a choice; empty: none does. `default`: the model where no text fits; empty: the
    base model of the adapters among which was chosen, if they have one. `counted`: by what, and whether one was found.
    """

    name: str
    default: str
    table: RoutingTable
    bases: Bases
    selector: Selector
    counted: Callable[[str, bool], None] = lambda method, found: None

    def offered(self, namespace: str, owners: frozenset[str] | None) -> bool:
        """Whether there is anything to choose, and nothing of that name."""
        if not self.name or self.bases.namespaces(self.name):
            return False
        if any(owned(one, owners) and namespace in ("", one.namespace) for one in self.table.named(self.name)):
            return False
        return bool(self.default or self.selector.among(None, namespace or None, owners).items)

    async def resolve(self, question: Question, members: Mapping[str, Any]) -> Question | Refusal:
        """The question with the model that its text is for. As it is, if it does not ask for a choice."""
        if question.model != self.name or not self.offered(question.namespace, question.owners):
            return question
        among = self.selector.among(None, question.namespace or None, question.owners)
        try:
            found = await self.selector.select(request_text(members), among, Method.AUTO)
        except Busy:
            text = "too many requests wait for their adapter to be chosen; come again, or name one"
            return Refusal("too_many", 429, "TooManySelections", text, RETRY_SECONDS)
        self.counted(found.method.value, found.subject is not None)
        if (one := found.subject) is not None:
            return replace(question, model=one.name, namespace=one.namespace, selected=one.name)
        return self._otherwise(question, among)

    def _otherwise(self, question: Question, among: Subjects) -> Question | Refusal:
        if self.default:
            return replace(question, model=self.default)
        bases = {(one.namespace, one.base_model) for one in among.items}
        if len({base for _, base in bases}) == 1:
            namespaces = {namespace for namespace, _ in bases}
            (base,) = {base for _, base in bases}
            return replace(question, model=base, namespace=namespaces.pop() if len(namespaces) == 1 else "")
        text = (
            f"no adapter is for what this request says, and {self.name} stands for no one base model: name an adapter "
            "or a base model (or have the gateway set --picker-auto-default)"
        )
        return Refusal("unknown", 404, "NotFoundError", text)
