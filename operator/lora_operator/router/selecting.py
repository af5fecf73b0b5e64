"""Which adapter a text is for: by keywords, by meaning, or by meaning where no keyword says. Knows nothing of HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from lora_operator.router.semantic import Semantic
from lora_operator.router.topics import Subject, Subjects, Topics
from lora_operator.router.worker import Worker
from lora_scheduler.routing import Selection

KEYWORD_THRESHOLD = 1.0  # one whole word
SEMANTIC_THRESHOLD = 0.3


class Method(StrEnum):
    """How a text is compared."""

    KEYWORDS = "keywords"
    SEMANTIC = "semantic"
    AUTO = "auto"  # by keywords, and where they reach no threshold by meaning, if there is a model


class NoModel(Exception):
    """Meaning cannot be compared here."""


@dataclass(frozen=True, slots=True)
class Selected:
    """`subject` None: the base model. `score` and `matched` are of the best adapter, chosen or not; `method` is the one
    that said so."""

    subject: Subject | None
    method: Method
    score: float
    matched: tuple[str, ...] = ()


class Selector:
    """Over one table. `stop` it at the end."""

    def __init__(self, topics: Topics, semantic: Semantic | None = None) -> None:
        self._topics = topics
        self._semantic = semantic
        self._reading = Worker("keywords")
        self._embedding = Worker("embedding")

    def among(
        self, base_model: str | None, namespace: str | None, owners: frozenset[str] | None = None
    ) -> Subjects:  # fmt: skip
        """Whatever says what it is for, of these; None: of all."""
        return self._topics.of(base_model, namespace, owners)

    async def select(self, text: str, subjects: Subjects, method: Method, threshold: float | None = None) -> Selected:
        """With `auto`, `threshold` is that of the keywords.

        Raises:
            NoModel: `semantic` was asked for, and no model is there.
            Busy: too many are being compared already.
        """
        if method is Method.SEMANTIC:
            return await self._by_meaning(subjects, text, threshold)
        least = KEYWORD_THRESHOLD if threshold is None else threshold
        # thousands of keywords, or a long text: not on the event loop
        found = await self._reading.do(lambda: subjects.catalogue.select(text, least))
        if found.adapter is None and method is Method.AUTO and self._semantic is not None:
            return await self._by_meaning(subjects, text, None)
        return _by_keywords(subjects, found)

    async def _by_meaning(self, subjects: Subjects, text: str, threshold: float | None) -> Selected:
        semantic = self._semantic
        if semantic is None:
            raise NoModel
        while await self._embedding.do(lambda: semantic.prepare(subjects)):
            pass  # others have their turn in between
        nearest = await self._embedding.do(lambda: semantic.nearest(subjects, text))
        if nearest is None:
            return Selected(None, Method.SEMANTIC, 0.0)
        least = SEMANTIC_THRESHOLD if threshold is None else threshold
        chosen = nearest.subject if nearest.score >= least else None
        return Selected(chosen, Method.SEMANTIC, nearest.score, (nearest.line,))

    def stop(self) -> None:
        self._reading.stop()
        self._embedding.stop()


def _by_keywords(subjects: Subjects, found: Selection) -> Selected:
    subject = None if found.adapter is None else subjects.by_key[found.adapter]
    return Selected(subject, Method.KEYWORDS, found.score, found.matched)
