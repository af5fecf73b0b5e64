"""What adapters are for, by base model, in step with the table and arranged so that a text can be compared with all."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from lora_operator.router.entries import About, Entry
from lora_operator.router.table import Key, RoutingTable
from lora_scheduler.routing import Catalogue, Topic, problem_of

log = logging.getLogger(__name__)

ARRANGED = 100  # pairs of base model and namespace that are kept arranged
TOLD = 10_000


@dataclass(frozen=True, slots=True)
class Subject:
    """One adapter that says what it is for."""

    namespace: str
    name: str
    about: About

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


class Subjects:
    """Those of one base model, at one time. Never changed, so that threads may read it."""

    def __init__(self, items: tuple[Subject, ...]) -> None:
        self.items = items
        self.by_key = {item.key: item for item in items}

    @cached_property
    def catalogue(self) -> Catalogue:
        """Their keywords; it takes time to make one of thousands."""
        return Catalogue(Topic(one.key, tuple(_fit(one)), one.about.priority) for one in self.items)


class Topics:
    """Follows the table. One event loop."""

    def __init__(self, table: RoutingTable) -> None:
        self._table = table
        self._seen = 0
        self._known: dict[str, dict[Key, About]] = {}  # by base model
        self._arranged: OrderedDict[tuple[str, str | None], Subjects] = OrderedDict()
        self._told: set[tuple[str, str]] = set()
        table.listen(self._follow)
        self._follow()

    def of(self, base_model: str, namespace: str | None) -> Subjects:
        """The adapters of a base model, of one namespace or of all. The same object until one of them changes."""
        where = (base_model, namespace)
        found = self._arranged.get(where)
        if found is None:
            known = sorted(self._known.get(base_model, {}).items())
            found = Subjects(tuple(Subject(*key, about) for key, about in known if namespace in (None, key[0])))
            self._arranged[where] = found
            if len(self._arranged) > ARRANGED:
                self._arranged.popitem(last=False)
        self._arranged.move_to_end(where)
        return found

    def _follow(self) -> None:
        changes = self._table.since(self._seen)
        self._seen = self._table.version
        if changes is None:  # more than the log holds
            self._known.clear()
            self._arranged.clear()
            for entry in self._table.after():
                self._change(None, entry)
            return
        for change in changes:
            self._change(change.before, change.after)

    def _change(self, before: Entry | None, after: Entry | None) -> None:
        old = (before.base_model, before.about) if before is not None and before.about is not None else None
        new = (after.base_model, after.about) if after is not None and after.about is not None else None
        if old == new:
            return
        if before is not None and old is not None:
            known = self._known.get(before.base_model, {})
            known.pop(before.key, None)
            if not known:
                self._known.pop(before.base_model, None)
            self._forget(before.base_model)
        if after is not None and after.about is not None:
            self._known.setdefault(after.base_model, {})[after.key] = after.about
            self._forget(after.base_model)
            self._warn(after, after.about)

    def _forget(self, base_model: str) -> None:
        for where in [where for where in self._arranged if where[0] == base_model]:
            del self._arranged[where]

    def _warn(self, entry: Entry, about: About) -> None:
        """An annotation is looked at by nobody else."""
        for keyword in about.keywords:
            said = f"{entry.namespace}/{entry.resource}", keyword
            if said in self._told or len(self._told) >= TOLD:
                continue
            problem = problem_of(keyword)
            if problem:
                self._told.add(said)
                log.warning("keyword %.100r of LoraAdapter %s is left out: it %s", keyword, said[0], problem)


def _fit(subject: Subject) -> Iterator[str]:
    return (keyword for keyword in subject.about.keywords if not problem_of(keyword))
