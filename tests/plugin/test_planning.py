"""Plans that nobody carries out: what would happen, what has no place, and how many pods would do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from e2e.world.adapters import write_adapter
from lora_operator.cli.main import main as operator_main
from lora_operator.plugin.main import main
from lora_operator.plugin.what_if import kinds, needs, play, with_more, without
from lora_scheduler import Adapter, Pod, Policy, Resident, Snapshot
from tests.core.api_server import ApiServer
from tests.plugin.a_fleet import GROUP, a_pod, an_adapter, fill, show
from tests.plugin.conftest import Lora

POLICY = Policy()


def an_adapter_of(key: str, *, replicas: int = 1, rank: int = 8, size: int = 10) -> Adapter:
    return Adapter(f"ns/la/{key}", key, "llama", "v", size, rank, "ns", replicas=replicas)


def a_pod_of(key: str, *, slots: int = 2, rank: int = 16, memory: int | None = None, **more: Any) -> Pod:
    return Pod(f"ns/{key}", "llama", slots, rank, memory, namespace="ns", node=f"node-{key}", **more)


def a_snapshot(adapters: int, pods: int, *, replicas: int = 1, slots: int = 2) -> Snapshot:
    return Snapshot(
        tuple(an_adapter_of(f"a{n}", replicas=replicas) for n in range(adapters)),
        tuple(a_pod_of(f"p{n}", slots=slots) for n in range(pods)),
    )


def test_a_plan_is_played_until_nothing_more_happens() -> None:
    outcome = play(a_snapshot(5, 2), POLICY)
    assert (outcome.missing, outcome.last.actions) == (1, ())
    assert sum(len(pod.residents) for pod in outcome.end.pods) == 4


def test_pods_needed_is_the_smallest_number_that_does() -> None:
    (need,) = needs(a_snapshot(9, 2), POLICY, None)
    assert (need.like, need.pods, need.placed, need.enough) == ("ns/p0", 3, 5, True)


def test_more_pods_of_a_kind_that_is_too_small_are_not_asked_for() -> None:
    snapshot = Snapshot(
        (an_adapter_of("wide", rank=64), an_adapter_of("a"), an_adapter_of("b")), (a_pod_of("p", slots=1),)
    )
    (need,) = needs(snapshot, POLICY, None)
    assert (need.pods, need.placed, need.enough) == (1, 1, False)


def test_each_kind_of_pod_is_asked_for_what_the_others_cannot_take() -> None:
    adapters = (an_adapter_of("wide", rank=64), *(an_adapter_of(f"a{n}") for n in range(3)))
    taken = (Resident("x", 1, 8, None, None, owned=False),)
    pods = (a_pod_of("small", slots=1), a_pod_of("large", slots=1, rank=64, residents=taken))
    found = needs(Snapshot(adapters, pods), POLICY, None)
    assert [(need.like, need.pods) for need in found] == [("ns/small", 2), ("ns/large", 1)]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 12), st.integers(1, 4), st.integers(1, 3), st.integers(1, 4))
def test_with_the_pods_that_are_needed_everything_has_a_place_and_with_one_less_it_has_not(
    adapters: int, pods: int, replicas: int, slots: int
) -> None:
    snapshot = a_snapshot(adapters, pods, replicas=replicas, slots=slots)
    found = needs(snapshot, POLICY, None)
    assert bool(found) == (play(snapshot, POLICY).missing > 0)
    for need in found:
        assert need.enough
        assert play(with_more(snapshot, snapshot.pods[0], need.pods), POLICY).missing == 0
        assert play(with_more(snapshot, snapshot.pods[0], need.pods - 1), POLICY).missing > 0


def test_a_pod_that_is_taken_away_leaves_no_trace() -> None:
    snapshot = Snapshot(
        (Adapter("k", "a", "llama", "v", 1, 8, "ns", previous_pods=frozenset({"ns/p0"})),), a_snapshot(0, 2).pods
    )
    left = without(snapshot, ["ns/p0"])
    assert ([pod.key for pod in left.pods], left.adapters[0].previous_pods) == (["ns/p1"], frozenset())


def test_pods_of_one_workload_are_of_one_kind() -> None:
    own = {"statefulset.kubernetes.io/pod-name": "p0", "topology.kubernetes.io/zone": "a"}
    pods = [a_pod_of("p0", labels=own), a_pod_of("p1"), a_pod_of("p2", slots=9), a_pod_of("p3", draining=True)]
    assert [pod.key for pod in kinds(pods)] == ["ns/p0", "ns/p2"]


# the command


def files(folder: Path, *, replicas: int = 2, adapters: int = 3) -> tuple[str, ...]:
    """A LoraAdapter of a local source with real adapters, and a StatefulSet of two pods with three slots each."""
    for number in range(adapters):
        write_adapter(folder / "models" / f"a{number}", base_model="tiny")
    adapter = {
        "apiVersion": f"{GROUP}/v1alpha1", "kind": "LoraAdapter", "metadata": {"name": "all"},
        "spec": {"baseModel": "tiny", "adapterSource": {"type": "local", "repository": str(folder / "models")},
                 "deploymentConfig": {"replicas": replicas}},
    }  # fmt: skip
    container = {
        "name": "vllm",
        "args": ["--model", "tiny", "--enable-lora", "--max-loras", "1", "--max-cpu-loras", "3"],
    }
    workload = {
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "vllm"},
        "spec": {"replicas": 2, "template": {"metadata": {"labels": {f"{GROUP}/lora": "enabled"}},
                                             "spec": {"containers": [container]}}},
    }  # fmt: skip
    (folder / "adapters.yaml").write_text(yaml.safe_dump(adapter))
    (folder / "pods.json").write_text(json.dumps({"kind": "List", "items": [workload]}))
    return "-f", str(folder / "adapters.yaml"), "-f", str(folder / "pods.json")


def test_files_alone_are_enough_and_sources_are_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *files(tmp_path), "-o", "json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert planned["complete"] and len(planned["steps"]) == 6
    assert planned["assignments"]["default/all/a0"] == ["default/vllm-0", "default/vllm-1"]


def test_what_has_no_place_is_told_with_reasons_and_the_exit_status_three(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = files(tmp_path, replicas=2, adapters=4)
    assert main(["plan", *given, "--pods-needed"]) == 3
    said = capsys.readouterr().out
    assert "1 LoraAdapter, 4 adapters, 2 pods: 6 replicas placed" in said
    # every adapter has its first replica before any has its second
    assert [f"a{n}: 1 replica without a place" in said for n in range(4)] == [False, False, True, True]
    assert "NoFreeSlot" in said and "1 more pod like vllm-0: a place for 2 more replicas" in said
    assert main(["plan", *given, "--add-pods", "1"]) == 0


def test_the_operators_own_command_line_has_the_same_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = files(tmp_path)
    assert operator_main(["plan", *given]) == 0
    said = capsys.readouterr().out
    assert main(["plan", *given]) == 0
    assert capsys.readouterr().out == said


def test_sources_that_cannot_be_read_are_counted_only_with_an_assumption(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = files(tmp_path)
    assert main(["plan", *given, "--offline"]) == 3
    assert "default/all is not counted: its source was not asked (--offline); say --rank" in capsys.readouterr().out
    assert main(["plan", *given, "--offline", "--rank", "8", "--bytes", "1Mi"]) == 0
    assert (
        "note: LoraAdapter default/all: its source was not asked (--offline); assumed: models"
        in capsys.readouterr().out
    )


def test_a_plan_knows_the_model_behind_a_served_name_as_the_operator_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = files(tmp_path, adapters=1)
    write_adapter(tmp_path / "models" / "a0", base_model="org/base-7b")
    for old, new in (
        ("baseModel: tiny", "baseModel: team/chat"),
        ('"tiny"', '"org/base-7b", "--served-model-name", "team/chat"'),
    ):
        for file in (tmp_path / "adapters.yaml", tmp_path / "pods.json"):
            file.write_text(file.read_text().replace(old, new))
    assert main(["plan", *given]) == 0
    pods = tmp_path / "pods.json"
    pods.write_text(pods.read_text().replace("org/base-7b", "org/other"))
    assert main(["plan", *given]) == 3
    assert "BaseModelMismatch" in capsys.readouterr().out


def test_a_broken_adapter_of_a_source_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = files(tmp_path)
    (tmp_path / "models" / "a0" / "adapter_config.json").write_text("{")
    assert main(["plan", *given]) == 3
    assert "default/all/a0: ConfigInvalid" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("--like", "vllm-0"), 2, "--like says what --add-pods or --pods-needed add"),
        (("--bytes", "much"), 2, "--bytes: "),
        (("--remove-pod", "vllm-7"), 1, "there is no pod that takes part called vllm-7 in these files; did you mean"),
        (("--add", "/nowhere.yaml"), 1, "cannot read /nowhere.yaml"),
    ],
)
def test_what_makes_no_sense_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], status: int, words: str
) -> None:
    assert main(["plan", *files(tmp_path), *arguments]) == status
    assert words in capsys.readouterr().err


def test_a_lora_adapter_that_the_api_server_would_refuse_is_refused_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(f"apiVersion: {GROUP}/v1alpha1\nkind: LoraAdapter\nmetadata: {{name: a}}\nspec: {{baseModel: m}}\n")
    assert main(["plan", "-f", str(file)]) == 1
    assert "LoraAdapter default/a: spec.adapterSource" in capsys.readouterr().err


def test_numbers_that_make_no_sense_end_with_two(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (("--add-pods", "-1"), ("--add-pods", "x"), ("--rank", "0"), ("--policy", "best")):
        with pytest.raises(SystemExit) as ended:
            main(["plan", *arguments])
        assert ended.value.code == 2
    capsys.readouterr()


async def test_on_a_cluster_what_is_loaded_stays_and_a_new_adapter_is_added(
    lora: Lora, api: ApiServer, tmp_path: Path
) -> None:
    fill(api)
    said = await lora("plan", "-o", "json")
    assert said.status == 3
    assert (said.document["steps"], [item["adapter"] for item in said.document["unplaced"]]) == (
        [],
        ["team-a/wide/wide"],
    )
    new = an_adapter("more", spec={"adapterSource": {"type": "s3", "repository": "bucket/more"}}) | {"status": {}}
    file = tmp_path / "more.yaml"
    file.write_text(yaml.safe_dump(new))
    said = await lora("plan", "--add", str(file), "--offline", "--rank", "8", "--bytes", "10Mi", "-o", "json")
    assert [(step["action"], step["adapter"]) for step in said.document["steps"]] == [("load", "more")]


async def test_an_urgent_adapter_takes_the_room_of_another(lora: Lora, api: ApiServer, tmp_path: Path) -> None:
    show(api, [an_adapter("sql", {"sql": ["vllm-0"]})], [a_pod("vllm-0", slots=2, memory="100Mi")])
    urgent = an_adapter("urgent", spec={"schedulingConfig": {"priority": 9}}) | {"status": {}}
    file = tmp_path / "urgent.yaml"
    file.write_text(yaml.safe_dump(urgent))
    said = await lora("plan", "--add", str(file), "--offline", "--rank", "8", "--bytes", "80Mi")
    assert said.status == 3
    assert ["1", "unload", "sql", "vllm-0"] in [line[:4] for line in said.lines]
    assert ["2", "load", "urgent", "vllm-0"] in [line[:4] for line in said.lines]
    assert "makes room for a higher priority (urgent)" in said.out


async def test_an_adapter_on_demand_that_is_loaded_is_not_unloaded_by_a_plan(lora: Lora, api: ApiServer) -> None:
    on_demand = {"deploymentConfig": {"loadOnStartup": False}}
    show(api, [an_adapter("rare", {"rare": ["vllm-0"]}, wanted=1, spec=on_demand)], [a_pod("vllm-0")])
    said = await lora("plan")
    assert (said.status, said.out.splitlines()[-1]) == (0, "Nothing to do.")
    show(api, [an_adapter("rare", {"rare": []}, wanted=0, spec=on_demand)], [a_pod("vllm-0")])
    assert (await lora("plan")).out.splitlines()[-1] == "Nothing to do."


async def test_pods_that_differ_have_to_be_named(lora: Lora, api: ApiServer) -> None:
    show(api, [an_adapter("sql")], [a_pod("vllm-0"), a_pod("vllm-1", slots=8)])
    said = await lora("plan", "--add-pods", "1")
    assert said.status == 2
    assert "pods differ: say with --like which one to add more of, one of vllm-0, vllm-1" in said.err
    assert (await lora("plan", "--add-pods", "1", "--like", "vllm-1")).status == 0
