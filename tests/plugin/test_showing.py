"""What people see of adapters and pods: tables for them, documents for programs, and clear words where it fails."""

from __future__ import annotations

import io

import pytest
import yaml
from rich.text import Text

from lora_operator.plugin.screen import Screen, bar, in_size, in_time
from tests.core.api_server import ApiServer
from tests.plugin.a_fleet import ADAPTERS, NAMESPACE, PODS, a_pod, an_adapter, fill, refused, show
from tests.plugin.conftest import Lora


async def test_adapters_are_listed_with_replicas_state_and_place(lora: Lora, api: ApiServer) -> None:
    fill(api)
    lines = (await lora("get")).lines
    assert lines[1:] == [
        ["chat", "assistants", "llama", "1/1", "Ready", "vllm-1"],
        ["poet", "assistants", "llama", "1/1", "Ready", "vllm-0"],
        ["rare", "on-demand", "llama", "0/0", "OnDemand", "-"],
        ["sql", "sql", "llama", "2/2", "Ready", "vllm-0,vllm-1"],
        ["wide", "wide", "llama", "0/1", "Failed", "(RankTooHigh)", "-"],
    ]


async def test_wide_output_adds_rank_size_version_and_message(lora: Lora, api: ApiServer) -> None:
    fill(api)
    said = await lora("get", "wide", "-o", "wide")
    assert said.lines[1][6:9] == ["-", "64", "320Mi"]
    assert "rank 64 exceeds max_lora_rank 16 on 2 of 2 pods" in said.out


async def test_one_adapter_or_all_of_a_lora_adapter_are_found_by_name(lora: Lora, api: ApiServer) -> None:
    fill(api)
    assert [item["adapter"] for item in (await lora("get", "chat", "-o", "json")).document] == ["chat"]
    assert [item["adapter"] for item in (await lora("get", "assistants", "-o", "json")).document] == ["chat", "poet"]


async def test_json_and_yaml_say_the_same(lora: Lora, api: ApiServer) -> None:
    fill(api)
    as_json = (await lora("get", "-o", "json")).document
    assert yaml.safe_load((await lora("get", "-o", "yaml")).out) == as_json


async def test_an_unknown_adapter_is_told_with_those_of_similar_names(lora: Lora, api: ApiServer) -> None:
    fill(api)
    said = await lora("why", "pot")
    assert (said.status, said.err) == (
        1,
        "error: there is no adapter pot in namespace team-a; did you mean poet?\n",
    )


async def test_a_lora_adapter_of_which_nothing_is_known_yet_is_listed_all_the_same(lora: Lora, api: ApiServer) -> None:
    new = an_adapter("new", {}, ready=("False", "AccessDenied", "the bucket says no"))
    show(api, [new], [])
    said = await lora("get")
    assert said.lines[1] == ["-", "new", "llama", "-", "Failed", "(AccessDenied)", "-"]
    show(api, [], [])
    assert (await lora("get")).out == "No LoraAdapters in namespace team-a.\n"


async def test_all_namespaces_have_a_column_for_it(lora: Lora, api: ApiServer) -> None:
    everywhere = "/apis/production-stack.vllm-project/v1alpha1/loraadapters"
    api.lists[everywhere] = [{"metadata": {}, "items": [an_adapter("sql")]}]
    lines = (await lora("get", "-A")).lines
    assert (lines[0][0], lines[1][0]) == ("NAMESPACE", NAMESPACE)


async def test_why_has_the_operators_word_first_and_tells_the_rest_by_planning(lora: Lora, api: ApiServer) -> None:
    said_by_one = refused("wide", "LoadFailed", "the engine said 500", ("vllm-0",))
    show(api, [an_adapter("wide", {"wide": []}, rank=64, failed=[said_by_one])], [a_pod("vllm-0"), a_pod("vllm-1")])
    found = (await lora("why", "wide", "-o", "json")).document["pods"]
    assert [(a["pod"], a["reason"], a["source"]) for a in found] == [
        ("vllm-0", "LoadFailed", "status"),
        ("vllm-1", "RankTooHigh", "planning"),
    ]


async def test_why_of_an_adapter_that_is_where_it_should_be(lora: Lora, api: ApiServer) -> None:
    fill(api)
    said = await lora("why", "chat")
    assert said.lines[2] == ["Ready:", "1", "of", "1", "replicas", "answer"]
    assert said.lines[-2][:2] == ["vllm-0", "NotWanted"]
    assert said.lines[-1][:2] == ["vllm-1", "Holds"]


async def test_why_of_an_adapter_that_cannot_be_used_asks_no_pod_and_says_so(lora: Lora, api: ApiServer) -> None:
    torn = {"name": "torn", "reason": "File truncated", "code": "FileTruncated", "message": "copy it again"}
    show(api, [an_adapter("mixed", {}, failed=[torn])], [a_pod("vllm-0"), a_pod("vllm-1")])
    said = (await lora("why", "torn")).out
    assert "Failed: it is loaded nowhere\nFileTruncated: copy it again\n" in said
    assert said.endswith("2 pods take part in namespace team-a, and none is asked before the above is mended.\n")
    show(api, [an_adapter("mixed", {}, failed=[torn])], [])
    assert "No pods take part in namespace team-a. They need the label" in (await lora("why", "torn")).out


async def test_why_says_once_why_a_source_fails(lora: Lora, api: ApiServer) -> None:
    new = an_adapter("new", {}, ready=("False", "AccessDenied", "the bucket says no"))
    new["status"]["conditions"].append(
        {"type": "SourceReady", "status": "False", "reason": "AccessDenied", "message": "the bucket says no"}
    )
    show(api, [new], [a_pod("vllm-0")])
    said = (await lora("why", "new")).out
    assert said.count("the bucket says no") == 1
    assert "1 pod takes part" in said


async def test_an_adapter_is_not_told_what_is_wrong_with_another(lora: Lora, api: ApiServer) -> None:
    clash = {"name": "b", "reason": "Name is taken", "code": "Conflict", "message": "another one has it"}
    on_demand = {"deploymentConfig": {"loadOnStartup": False}}
    wrong = ("False", "Conflict", "0 of 2 adapters ready: b: Name is taken")
    show(api, [an_adapter("cold", {"a": []}, wanted=0, spec=on_demand, failed=[clash], ready=wrong)], [a_pod("vllm-0")])
    said = (await lora("why", "a")).out
    assert "OnDemand: no replica is wanted now\nLoadOnDemand: loadOnStartup is false: it is loaded when" in said
    assert [line[2:] for line in (await lora("get", "cold")).lines[1:]] == [
        ["llama", "0/0", "OnDemand", "-"],
        ["llama", "0/0", "Failed", "(Conflict)", "-"],
    ]
    show(api, [an_adapter("two", {"a": []}, failed=[clash], ready=wrong)], [a_pod("vllm-0")])
    assert (await lora("get", "two")).lines[1][3:] == ["0/1", "Loading", "-"]


async def test_what_waits_for_pods_is_not_called_loading(lora: Lora, api: ApiServer) -> None:
    nobody = ("False", "NoMatchingPods", "no pod serves this base model")
    fewer = ("False", "NotEnoughPods", "1 of 2 replicas have a pod")
    there = [an_adapter("none", {"x": []}, ready=nobody), an_adapter("some", {"y": ["vllm-0"]}, wanted=2, ready=fewer)]
    show(api, there, [])
    assert [line[3:] for line in (await lora("get")).lines[1:]] == [
        ["0/1", "Pending", "(NoMatchingPods)", "-"],
        ["1/2", "Partial", "(NotEnoughPods)", "vllm-0"],
    ]


async def test_why_asks_which_one_is_meant(lora: Lora, api: ApiServer) -> None:
    fill(api)
    said = await lora("why", "assistants")
    assert said.err == ("error: LoraAdapter assistants stands for several adapters: chat, poet; say which is meant\n")


async def test_pods_show_slots_and_memory(lora: Lora, api: ApiServer) -> None:
    fill(api)
    lines = (await lora("pods")).lines
    assert lines[1] == ["vllm-0", "llama", "Ready", "█████·····", "2/4", "██········", "120Mi/512Mi", "16"]
    (pod,) = (await lora("pods", "vllm-1", "-o", "json")).document
    assert (pod["adapters"], pod["slots"], pod["node"]) == (["chat", "sql"], {"used": 2, "most": 4, "gpu": 2}, "node-1")


async def test_a_pod_that_does_not_answer_is_shown_as_such(lora: Lora, api: ApiServer) -> None:
    show(api, [], [a_pod("vllm-0", up=False)])
    assert (await lora("pods")).lines[1][:3] == ["vllm-0", "llama", "PodNotReady"]
    show(api, [], [])
    assert "No pods take part in namespace team-a." in (await lora("pods")).out


async def test_busy_engines_are_shown_with_their_adapters(lora: Lora, api: ApiServer) -> None:
    fill(api)
    said = await lora("top", "--once")
    assert said.lines[1] == ["vllm-0", "3", "0", "-", "███·······", "31%", "poet,sql"]
    assert ["sql", "2/2", "0", "vllm-0,vllm-1"] in said.lines
    assert ["chat", "0/1", "0", "-"] in said.lines
    del api.raw[f"{PODS}/vllm-1:8000/proxy/metrics"]
    said = await lora("top", "--once")
    assert said.status == 0
    assert "no answer" in said.out.splitlines()[2]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (404, "this cluster does not know LoraAdapters: install the operator, or `kubectl apply -f crds/`"),
        (403, "cannot list LoraAdapters: refused; ask for that right"),
        (401, "cannot list LoraAdapters: the API server does not accept your credentials; log in again"),
    ],
)
async def test_refusals_of_the_cluster_are_told_in_words(lora: Lora, api: ApiServer, status: int, words: str) -> None:
    api.statuses[ADAPTERS] = status
    said = await lora("get")
    assert (said.status, said.err) == (1, f"error: {words}\n")


async def test_a_cluster_that_does_not_answer_is_told(lora: Lora) -> None:
    said = await lora("get", "--context", "away")
    assert said.status == 1
    assert "no cluster answers" in said.err and "--context and --kubeconfig" in said.err


async def test_a_context_that_there_is_not_is_told(lora: Lora) -> None:
    said = await lora("get", "--context", "nowhere")
    assert said.status == 1
    assert "no usable kubeconfig" in said.err and "nowhere" in said.err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colours_are_for_terminals_and_those_who_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)

    def shown(stream: io.StringIO) -> str:
        Screen(stream=stream).line("Ready", "green")
        return stream.getvalue()

    assert "\x1b[" in shown(Terminal())
    monkeypatch.setenv("FORCE_COLOR", "1")  # some set it for all that they run
    assert shown(io.StringIO()) == "Ready\n"
    monkeypatch.setenv("NO_COLOR", "1")
    assert shown(Terminal()) == "Ready\n"


def test_what_others_wrote_cannot_steer_the_terminal() -> None:
    stream = io.StringIO()
    screen = Screen(stream=stream)
    screen.line("a\x1b]0;title\x07b [bold]")
    screen.table(["NAME"], [["\x1b[31mred"]])
    assert stream.getvalue() == "a?]0;title?b [bold]\nNAME\n?[31mred\n"


def test_amounts_are_short() -> None:
    assert [in_size(n) for n in (0, 999, 1536, 80 << 20, 3 << 40)] == ["0", "999", "1.5Ki", "80Mi", "3.0Ti"]
    assert [in_time(s) for s in (5, 119, 120, 7300, 9e5)] == ["5s", "119s", "2m", "2h", "10d"]
    assert [str(bar(used, 4)) for used in (0, 2, 5)] == ["··········", "█████·····", "██████████"]


@pytest.mark.parametrize("output", ["table", "json", "yaml"])
async def test_what_others_write_steers_no_terminal(lora: Lora, api: ApiServer, output: str) -> None:
    steering = "\x1b]0;title\x07\x9b2J\u202e\x7f"
    show(api, [an_adapter("new", {}, ready=("False", f"Bad{steering}", steering))], [])
    said = await lora("get", "-o", output)
    assert said.out.replace("\n", "").isprintable() and "Bad" in said.out
    if output == "json":
        assert steering in said.document[0]["reason"]
    assert (await lora("why", steering)).err.rstrip("\n").isprintable()


def test_cells_with_colours_steer_no_terminal_either() -> None:
    shown = io.StringIO()
    Screen(stream=shown).table(("A",), [[Text("x\x1b[2Jy", "red")]])
    assert shown.getvalue() == "A\nx?[2Jy\n"
