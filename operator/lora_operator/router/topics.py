"""What adapters are for, in step with the table and arranged so that a text can be compared with all."""

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

ARRANGED = 100  # choices of base model, namespace and owners that are kept arranged
TOLD = 10_000


@dataclass(frozen=True, slots=True)
class Subject:
    """One adapter that says what it is for."""

    namespace: str
    name: str
    base_model: str
    owner: str
    about: About

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


class Subjects:
    """Those that may be chosen, at one time. Never changed, so that threads may read it."""

    def __init__(self, items: tuple[Subject, ...]) -> None:
        self.items = items
        self.by_key = {item.key: item for item in items}

    @cached_property
    def catalogue(self) -> Catalogue:
        """Their keywords; it takes time to make one of thousands."""
        return Catalogue(Topic(one.key, tuple(_fit(one)), one.about.priority) for one in self.items)


@dataclass(frozen=True, slots=True)
class _Among:
    """Which adapters; None is any."""

    base_model: str | None
    namespace: str | None
    owners: frozenset[str] | None

    def __contains__(self, one: Subject | None) -> bool:
        return (
            one is not None
            and self.base_model in (None, one.base_model)
            and self.namespace in (None, one.namespace)
            and (self.owners is None or one.owner in self.owners)
        )


class Topics:
    """Follows the table. One event loop."""

    def __init__(self, table: RoutingTable) -> None:
        self._table = table
        self._seen = 0
        self._known: dict[str, dict[Key, Subject]] = {}  # by owner
        self._arranged: OrderedDict[_Among, Subjects] = OrderedDict()
        self._told: set[tuple[str, str]] = set()
        table.listen(self._follow)
        self._follow()

    def of(
        self, base_model: str | None, namespace: str | None, owners: frozenset[str] | None = None
    ) -> Subjects:  # fmt: skip
        """The adapters of a base model, a namespace and these owners; None: of all. The same object until one of them
        changes."""
        among = _Among(base_model, namespace, owners)
        found = self._arranged.get(among)
        if found is None:
            groups = self._known.values() if owners is None else [self._known.get(one, {}) for one in owners]
            known = (subject for group in groups for subject in group.values() if subject in among)
            found = Subjects(tuple(sorted(known, key=lambda one: (one.namespace, one.name))))
            self._arranged[among] = found
            if len(self._arranged) > ARRANGED:
                self._arranged.popitem(last=False)
        self._arranged.move_to_end(among)
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
        old, new = _subject(before), _subject(after)
        if old == new:
            return
        if old is not None:
            known = self._known.get(old.owner, {})
            known.pop((old.namespace, old.name), None)
            if not known:
                self._known.pop(old.owner, None)
        if after is not None and new is not None:
            self._known.setdefault(new.owner, {})[after.key] = new
            self._warn(after, new.about)
        for among in [among for among in self._arranged if old in among or new in among]:
            del self._arranged[among]

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


def _subject(entry: Entry | None) -> Subject | None:
    if entry is None or entry.about is None:
        return None
    return Subject(entry.namespace, entry.name, entry.base_model, entry.owner, entry.about)


def _fit(subject: Subject) -> Iterator[str]:
    return (keyword for keyword in subject.about.keywords if not problem_of(keyword))
