"""POST /v1/select: the adapter that a text is for, from what LoraAdapters say of themselves."""

from __future__ import annotations

import asyncio
import re
import shutil
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from lora_operator.cli.router import _run
from lora_operator.router.selecting import Method, Selector
from lora_operator.router.semantic import BATCH, EmbeddingModelError, Semantic, load_model
from lora_operator.router.settings import RouterSettings
from lora_operator.router.topics import Topics
from lora_operator.router.wire import ProblemDocument, SelectAnswer
from lora_operator.router.worker import Busy, Worker
from tests.router.examples import examples, try_examples
from tests.router.fleet import NAMESPACE, Fleet
from tests.router.serving import Served, served

SQL = {"description": "Writes SQL queries for databases.", "keywords": ["sql", "select * from", "postgres*"]}


def a_fleet() -> Fleet:
    """`sql` on two pods, `poems` on one by an annotation, a group of three on none, and `plain` that says nothing."""
    fleet = Fleet()
    fleet.pod("vllm-0", "10.0.0.1")
    fleet.pod("vllm-1", "10.0.0.2")
    fleet.adapter("la-sql", {"vllm-0": {"sql": "sql"}, "vllm-1": {"sql": "sql--1"}}, selection=SQL)
    fleet.adapter("la-poems", {"vllm-0": {"poems": "poems"}}, keywords="poem, rhyme ,,verse, !!!")
    group = {
        "keywords": ["contract"],
        "description": "Reads legal contracts.",
        "adapters": [
            {"name": "labour", "keywords": ["salary"]},
            {"name": "rent", "keywords": ["landlord"], "description": "Knows the law of renting.", "priority": 1},
        ],
    }
    fleet.adapter("la-law", names=("labour", "rent", "sales"), selection=group, ready=("False", "Pending", "no room"))
    fleet.adapter("la-plain", {"vllm-0": {"plain": "plain"}})
    fleet.refresh()
    return fleet


async def ask(api: Served, text: str | None = None, **more: Any) -> SelectAnswer:
    body = {"baseModel": "llama", "method": "keywords"} | ({} if text is None else {"text": text}) | more
    status, answer = await api.post("/v1/select", body)
    assert status == 200, answer
    return SelectAnswer.model_validate(answer)


async def test_keywords_find_the_adapter_and_a_pod_that_holds_it() -> None:
    async with served(a_fleet()) as api:
        answer = await ask(api, "Please SELECT name FROM users in PostgreSQL")
        assert (answer.adapter, answer.namespace, answer.method) == ("sql", NAMESPACE, "keywords")
        assert (answer.score, answer.matched) == (3.0, ["postgres*", "select * from"])
        assert answer.endpoint is not None and answer.endpoint.address in ("10.0.0.1:8000", "10.0.0.2:8000")
        assert answer.endpoint.engine_name == ("sql" if answer.endpoint.pod == "vllm-0" else "sql--1")
        answer = await ask(api, "A verse, please")
        assert (answer.adapter, answer.matched) == ("poems", ["verse"])


async def test_below_the_threshold_the_answer_is_the_base_model() -> None:
    async with served(a_fleet()) as api:
        for text, more in (("What is the weather?", {}), ("", {}), ("sql", {"threshold": 1.5})):
            answer = await ask(api, text, **more)
            assert (answer.adapter, answer.namespace, answer.endpoint) == (None, None, None)
            assert answer.base_model == "llama"
        assert (answer.score, answer.matched) == (1.0, ["sql"])
        assert (await ask(api, "sql", baseModel="other")).adapter is None


async def test_what_is_said_of_all_counts_for_each_and_what_is_said_of_one_adds_to_it() -> None:
    async with served(a_fleet()) as api:
        answer = await ask(api, "a contract about a salary")
        assert (answer.adapter, answer.score, answer.matched) == ("labour", 2.0, ["contract", "salary"])
        assert (answer.endpoint, answer.reason) == (None, "Pending")
        assert (answer.message or "").endswith("adapter labour now: no room")
        assert (await ask(api, "a contract")).adapter == "rent"  # equal but for the priority
        assert (await ask(api, "a salary and a landlord")).adapter == "rent"


async def test_of_a_chat_what_the_user_said_counts() -> None:
    messages = [
        {"role": "system", "content": "You know poems."},
        {"role": "user", "content": [{"type": "text", "text": "some SQL"}, {"type": "image_url", "image_url": {}}]},
        {"role": "assistant", "content": "a verse?", "refusal": None},
        {"role": "tool", "content": None, "tool_call_id": "x"},
        {"role": "user", "content": "faster", "name": "me"},
    ]
    async with served(a_fleet()) as api:
        assert (await ask(api, messages=messages)).adapter == "sql"
        assert (await ask(api, messages=messages[:1])).adapter is None
        long = [{"role": "user", "content": "sql"}, {"role": "user", "content": "x " * 9000 + "verse"}]
        assert (await ask(api, messages=long)).adapter is None


async def test_the_same_adapter_in_two_namespaces_is_decided_by_name_or_by_who_asks() -> None:
    fleet = a_fleet()
    fleet.pod("vllm-9", "10.0.0.9", namespace="team-b")
    fleet.adapter("la-sql", {"vllm-9": {"sql": "sql"}}, selection=SQL, namespace="team-b")
    fleet.refresh()
    async with served(fleet) as api:
        assert {(await ask(api, "sql")).namespace for _ in range(5)} == {NAMESPACE}
        answer = await ask(api, "sql", namespace="team-b")
        assert answer.namespace == "team-b" and answer.endpoint is not None and answer.endpoint.pod == "vllm-9"
        assert (await ask(api, "poem", namespace="team-b")).adapter is None


async def test_changes_of_what_is_said_count_at_once() -> None:
    fleet = a_fleet()
    async with served(fleet) as api:
        assert (await ask(api, "cypher")).adapter is None
        before = api.api.selector._topics.of("llama", None)
        fleet.pod("vllm-0", "10.0.0.1", ready=False)
        fleet.refresh()
        assert api.api.selector._topics.of("llama", None) is before  # where it is loaded does not matter
        fleet.adapter("la-sql", {"vllm-1": {"sql": "sql"}}, selection={"keywords": ["cypher"]})
        fleet.refresh()
        assert ((await ask(api, "cypher")).adapter, (await ask(api, "sql")).adapter) == ("sql", None)
        fleet.drop_adapter("la-sql")
        fleet.refresh()
        assert (await ask(api, "cypher")).adapter is None
        fleet.adapter("la-new", names=("graph",), keywords="cypher")
        fleet.refresh()
        assert (await ask(api, "cypher")).adapter == "graph"


def test_a_table_that_changed_more_than_its_log_holds_is_read_anew() -> None:
    fleet = Fleet(log_length=2)
    topics = Topics(fleet.table)
    for number in range(5):
        fleet.adapter(f"la-{number}", names=(f"a{number}",), keywords="x")
    fleet.refresh()
    assert [one.name for one in topics.of("llama", None).items] == [f"a{number}" for number in range(5)]


def test_a_keyword_of_an_annotation_that_cannot_be_used_is_left_out_and_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fleet = Fleet()
    topics = Topics(fleet.table)
    for _ in range(3):
        fleet.adapter("la", names=("a", "b"), keywords=f"ok, ***x***, {'k' * 200}")
        fleet.refresh()
    assert topics.of("llama", None).catalogue.select("ok").adapter == "team-a/a"
    assert len([record for record in caplog.records if "is left out" in record.message]) == 2
    assert "keyword '***x***' of LoraAdapter team-a/la is left out: it has more than 4 wildcards" in caplog.text


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"text": "x"}, "baseModel: Field required"),
        ({"baseModel": "llama"}, "give text or messages, and not both"),
        ({"baseModel": "llama", "text": "x", "messages": []}, "give text or messages, and not both"),
        ({"baseModel": "llama", "text": "x", "threshold": 0}, "threshold: "),
        ({"baseModel": "llama", "text": "x", "threshold": "NaN"}, "threshold: "),
        ({"baseModel": "llama", "text": "x", "method": "magic"}, "method: "),
        ({"baseModel": "llama", "text": 7}, "text: "),
        ({"baseModel": "llama", "messages": [{"content": "x"}]}, "messages.0.role: "),
        ({"baseModel": "llama", "text": "x", "namespace": "A"}, "namespace: "),
        ({"baseModel": "llama", "text": "x", "model": "y"}, "model: Extra inputs"),
        ({"baseModel": "llama", "text": "x", "method": "semantic"}, "start it with --embedding-model"),
        ({"baseModel": "llama", "text": "x", "method": "semantic", "threshold": 2}, "scores of at most 1"),
    ],
)
async def test_a_question_that_makes_no_sense_is_refused_by_name(body: Any, says: str) -> None:
    async with served(a_fleet()) as api:
        status, answer = await api.post("/v1/select", body)
        assert status == 400 and says in ProblemDocument.model_validate(answer).detail


class Planes:
    """A model that knows three directions, and counts what it is asked for."""

    WORDS = ("sql", "law", "poem")

    def __init__(self) -> None:
        self.asked: list[str] = []

    def embed(self, texts: Sequence[str]) -> Any:
        import numpy

        self.asked += texts
        rows = [[float(word in text.lower()) for word in self.WORDS] + [0.001] for text in texts]
        matrix = numpy.array(rows)
        return matrix / numpy.linalg.norm(matrix, axis=1, keepdims=True)


def with_model(api: Served, model: Planes) -> None:
    pytest.importorskip("numpy", reason="meaning is compared with numpy: pip install numpy")
    api.api.selector = Selector(Topics(api.fleet.table), Semantic(model))


async def test_where_no_keyword_says_meaning_does_if_the_router_has_a_model() -> None:
    model = Planes()
    async with served(a_fleet()) as api:
        with_model(api, model)
        answer = await ask(api, "is that lawful?", method="auto")
        assert (answer.adapter, answer.method, answer.matched) == ("rent", "semantic", ["Knows the law of renting."])
        assert answer.score > 0.99
        assert (await ask(api, "a poem", method="auto")).method == "keywords"
        assert (await ask(api, "is that lawful?")).adapter is None  # keywords alone
        answer = await ask(api, "a poem", method="semantic")
        assert (answer.adapter, answer.method) == (None, "semantic")  # no description means that
        assert model.asked.count("Knows the law of renting.") == 1
        assert (await ask(api, "sql and law", method="semantic", threshold=0.9)).adapter is None
        assert (await ask(api, "sql and law", method="semantic", threshold=0.5)).adapter is not None
        assert (await ask(api, "sql", method="semantic", baseModel="other")).score == 0.0


async def test_equal_meanings_go_to_the_priority_and_then_to_the_name() -> None:
    fleet = Fleet()
    for name, priority in (("c", 5), ("b", 5), ("a", 0)):
        fleet.adapter(f"la-{name}", names=(name,), selection={"description": "sql", "priority": priority})
    fleet.refresh()
    async with served(fleet) as api:
        with_model(api, Planes())
        assert (await ask(api, "sql", method="semantic")).adapter == "b"


async def test_many_descriptions_are_embedded_in_parts_and_once() -> None:
    fleet = Fleet()
    for number in range(2 * BATCH + 5):
        fleet.adapter(f"la-{number}", names=(f"a{number}",), selection={"description": f"law {number}"})
    fleet.refresh()
    model = Planes()
    async with served(fleet) as api:
        with_model(api, model)
        answers = await asyncio.gather(*(ask(api, "law", method="semantic") for _ in range(3)))
        assert {answer.adapter for answer in answers} == {"a0"}
        assert len(model.asked) == 2 * BATCH + 5 + 3


async def test_no_more_wait_for_a_thread_than_may_and_who_leaves_frees_the_place() -> None:
    pytest.importorskip("numpy", reason="meaning is compared with numpy: pip install numpy")
    go, begun = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def hold() -> None:
        loop.call_soon_threadsafe(begun.set)
        go.wait(20)

    worker = Worker("test", most_waiting=2)
    try:
        first = asyncio.create_task(worker.do(hold))
        await begun.wait()
        second = asyncio.create_task(worker.do(hold))
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await worker.do(hold)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        third = asyncio.create_task(worker.do(lambda: 3))
        await asyncio.sleep(0)
        go.set()
        assert (await first, await third) == (None, 3)
    finally:
        go.set()
        worker.stop()


async def test_too_many_texts_at_a_time_are_sent_elsewhere() -> None:
    async with served(a_fleet()) as api:
        api.api.selector._reading._most_waiting = 0
        status, problem = await api.post("/v1/select", {"baseModel": "llama", "text": "sql"})
        assert (status, problem["type"]) == (503, "urn:lora-operator:router:too-many-selections")


async def test_selections_are_counted_by_what_decided() -> None:
    async with served(a_fleet()) as api:
        for text in ("sql", "sql", "nothing"):
            await ask(api, text)
        async with api.session.get(f"{api.url}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        assert 'lora_operator_router_selections_total{chosen="adapter",method="keywords"} 2.0' in lines
        assert 'lora_operator_router_selections_total{chosen="base",method="keywords"} 1.0' in lines


def test_a_model_that_is_not_there_is_refused_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    with pytest.raises(EmbeddingModelError, match=r"has no modules.json and no config.json; name the folder"):
        load_model(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EmbeddingModelError, match=r"install lora-operator\[semantic\]"):
        load_model(tmp_path)


def test_every_method_of_the_wire_is_one() -> None:
    assert {*Method} == {"keywords", "semantic", "auto"}


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_the_examples_of_the_page_give_what_it_says() -> None:
    page = (Path(__file__).parents[2] / "docs" / "selection.md").read_text()
    (block,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    fleet = Fleet(epoch="1f0c2a9b")
    fleet.pod("vllm-0", "10.0.0.1")
    fleet.adapter("la-sql", {"vllm-0": {"sql": "sql--5d41402a"}}, selection=SQL)
    said = yaml.safe_load(block)["spec"]["selection"]
    fleet.adapter("la-law", names=("labour", "rent", "sales"), selection=said, ready=("False", "Pending", "no room"))
    fleet.refresh()
    async with served(fleet) as api:
        await try_examples(page, api)
    assert len(examples(page)) == 3


async def test_a_router_that_is_to_have_a_model_and_has_none_does_not_start(tmp_path: Path) -> None:
    settings = replace(RouterSettings(), embedding_model=str(tmp_path))
    with pytest.raises(EmbeddingModelError, match="--embedding-model"):
        await _run(settings, asyncio.Event())
