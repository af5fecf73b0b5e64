"""What a pod says about itself, in all the ways in which people write it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lora_operator.informers.pod_description import ApiKeyRef, PodDefaults, PodDescription, describe, takes_part
from lora_operator.vllm.command import SecretKeyRef
from tests.observe.pods import GROUP, OPENAI, a_pod

DEFAULTS = PodDefaults()


def described(*args: str, **pod: Any) -> PodDescription:
    return describe(a_pod(*args, **pod), DEFAULTS)


def limits(pod: PodDescription) -> tuple[int, int, int, int]:
    return pod.max_loras, pod.max_cpu_loras, pod.max_lora_rank, pod.port


def test_tells_the_pod_and_the_life_of_its_container() -> None:
    pod = a_pod("--enable-lora")
    pod["spec"]["readinessGates"] = [{"conditionType": f"{GROUP}/adapters-loaded"}]
    said = describe(pod, DEFAULTS)
    assert (said.key, said.uid, said.namespace, said.name) == ("ml/vllm-0", "uid-1", "ml", "vllm-0")
    assert (said.ip, said.node, said.phase, said.terminating) == ("10.0.0.7", "node-a", "Running", False)
    assert (said.container, said.container_id, said.restart_count) == ("vllm", "containerd://abc", 2)
    assert (said.container_running, said.container_started_at) == (True, "2026-01-02T03:04:05Z")
    assert (said.ready, said.containers_ready) == (False, True)
    assert said.readiness_gates == (f"{GROUP}/adapters-loaded",)
    assert said.release_hint == "v0.10.2"
    assert said.problems == ()


def test_a_container_that_crashed_does_not_run() -> None:
    pod = a_pod()
    pod["status"]["containerStatuses"][1]["state"] = {"waiting": {"reason": "CrashLoopBackOff"}}
    pod["metadata"]["deletionTimestamp"] = "2026-01-02T03:04:05Z"
    said = describe(pod, DEFAULTS)
    assert (said.container_running, said.container_started_at, said.terminating) == (False, None, True)


def as_native_sidecar(pod: dict[str, Any], container: dict[str, Any], container_id: str) -> None:
    pod["spec"]["initContainers"] = [{"name": "fetch-vllm", "image": OPENAI}, container | {"restartPolicy": "Always"}]
    pod["status"]["initContainerStatuses"] = [
        {"name": "fetch-vllm", "state": {"terminated": {}}, "containerID": "containerd://done"},
        {"name": container["name"], "state": {"running": {}}, "containerID": container_id, "restartCount": 1},
    ]


def test_an_agent_that_is_a_native_sidecar_is_seen() -> None:
    pod = a_pod("--enable-lora")
    as_native_sidecar(
        pod, {"name": "agent", "ports": [{"name": "lora-agent", "containerPort": 8090}]}, "containerd://agent"
    )
    said = describe(pod, DEFAULTS)
    assert (said.agent_port, said.container, said.container_id) == (8090, "vllm", "containerd://abc")
    del pod["spec"]["initContainers"][1]["restartPolicy"]
    assert describe(pod, DEFAULTS).agent_port is None


def test_an_engine_that_is_a_native_sidecar_is_seen() -> None:
    pod = a_pod(name="router", image="router:1")
    as_native_sidecar(pod, a_pod("--max-loras", "7")["spec"]["containers"][0], "containerd://engine")
    said = describe(pod, DEFAULTS)
    assert (said.container, said.container_id, said.max_loras) == ("vllm", "containerd://engine", 7)
    assert (said.container_running, said.restart_count) == (True, 1)


def test_without_anything_said_vllms_own_defaults_count() -> None:
    pod = described("--enable-lora")
    assert limits(pod) == (1, 1, 16, 8000)
    assert (pod.memory_bytes, pod.adapter_root, pod.base_models) == (None, "/adapters", ())
    assert pod.prefix_caching and pod.api_key_ref is None


def test_the_operators_defaults_fill_what_is_not_said() -> None:
    defaults = PodDefaults("base", 9000, 2**30, 4, 8, 32, "/mnt/adapters")
    pod = describe(a_pod("--max-loras", "16"), defaults)
    assert (pod.base_models, limits(pod)) == (("base",), (16, 16, 32, 9000))
    assert (pod.memory_bytes, pod.adapter_root) == (2**30, "/mnt/adapters")


SAME = ["--max-loras", "4", "--max-cpu-loras", "8", "--max-lora-rank", "64", "--port", "9000", "--enable-lora"]
TEXT = " ".join(SAME)


@pytest.mark.parametrize(
    ("command", "args"),
    [
        (None, ["--model", "org/base", *SAME]),
        (None, ["org/base", *SAME]),
        (None, ["serve", "org/base", *SAME]),
        (None, [*SAME, "org/base"]),
        (["vllm", "serve"], ["org/base", *SAME]),
        (["vllm", "serve", "org/base", *SAME], []),
        (["/opt/venv/bin/vllm"], ["serve", *SAME, "org/base"]),
        (["python3", "-m", "vllm.entrypoints.openai.api_server"], ["--model=org/base", *SAME]),
        (["python3", "/app/vllm/entrypoints/openai/api_server.py"], ["--model=org/base", *SAME]),
        (["python", "-m", "e2e.vllm_sim", "serve", "org/base"], SAME),
        (["vllm", "serve", "org/base"], [word.replace("-loras", "_loras").replace("max-", "max_") for word in SAME]),
        (["vllm", "serve", "org/base"], ["--max-loras=4", "--max_cpu_loras=8", "--max-lora-rank=64", "--port=9000",
                                         "--enable-lora"]),
        (["vllm", "serve", "org/base", "--max-loras", "2"], SAME),
        (["sh", "-c", f"vllm serve org/base {TEXT}"], []),
        (["/bin/bash", "-ec"], [f"exec vllm serve 'org/base' {TEXT} 2>&1 | tee /tmp/log"]),
        (["bash", "-e", "-c"], [f"set -x; pip install foo && vllm serve \\\n  org/base \\\n  {TEXT}\n# it's done"]),
        (["sh", "-c", 'exec vllm serve "$@"', "--"], ["org/base", *SAME]),
        (["sh", "-c", f"(vllm serve org/base --max-num-seqs $(nproc) {TEXT}) > /tmp/log"], []),
        (["sh", "-c", f"export N=4\nMODEL=org/base\nvllm serve ${{MODEL}} {TEXT.replace(' 4 ', ' $N ')}"], []),
        (["tini", "--", "sh", "-c", f"vllm serve org/base {TEXT.replace('9000', '${PORT:-9000}')}"], []),
    ],
)  # fmt: skip
def test_reads_the_command_line_in_all_spellings(command: list[str] | None, args: list[str]) -> None:
    pod = described(*args, command=command)
    assert limits(pod) == (4, 8, 64, 9000)
    assert pod.base_models == ("org/base",)
    assert pod.lora_enabled and pod.problems == ()


@pytest.mark.parametrize(
    ("command", "args"),
    [
        (["vllm", "serve", "$(MODEL)"], ["--max-loras", "$(LORAS)", "--port=$(PORT)"]),
        (["sh", "-c", "vllm serve $MODEL --max-loras ${LORAS} --port $(PORT)"], []),
        (["sh", "-c", "vllm serve $MODEL $FLAGS"], []),
        (["sh", "-c", "vllm serve $(MODEL) $(FLAGS)"], []),
    ],
)
def test_follows_references_to_variables(command: list[str], args: list[str]) -> None:
    env = [
        {"name": "ORG", "value": "org"},
        {"name": "MODEL", "value": "$(ORG)/base"},
        {"name": "LORAS", "value": "3"},
        {"name": "PORT", "value": "9001"},
        {"name": "FLAGS", "value": "--max-loras $(LORAS) --port $(PORT)"},
    ]
    pod = described(*args, command=command, env=env)
    assert (pod.base_models, pod.max_loras, pod.port) == (("org/base",), 3, 9001)


def test_a_limit_that_the_pod_does_not_show_is_a_problem_that_an_annotation_solves() -> None:
    env = [{"name": "N", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "n"}}}]
    for value in ("$(N)", "$(FROM_ENV_FROM)"):
        pod = described("--max-loras", value, env=env)
        assert len(pod.problems) == 1
        assert value in pod.problems[0] and f"annotation {GROUP}/max-loras" in pod.problems[0]
    assert described("--max-loras", "$(N)", env=env, annotations={"max-loras": "4"}).problems == ()


def test_annotations_win_over_arguments() -> None:
    said = {"base-model": " org/base ", "port": "9009", "lora-memory": "2Gi", "max-loras": "2", "max-cpu-loras": "6"}
    pod = described(*SAME, "--model", "x", annotations={**said, "max-lora-rank": "8", "adapter-root": "/mnt//a/"})
    assert (pod.base_models, limits(pod)) == (("org/base",), (2, 6, 8, 9009))
    assert (pod.memory_bytes, pod.adapter_root, pod.problems) == (2 * 2**30, "/mnt/a", ())


@pytest.mark.parametrize(("memory", "count"), [("500M", 500_000_000), ("1.5Gi", 3 * 2**29), ("4096", 4096)])
def test_reads_quantities(memory: str, count: int) -> None:
    assert described(annotations={"lora-memory": memory}).memory_bytes == count


def test_all_served_names_are_names_of_the_base() -> None:
    pod = described("serve", "org/base", "--served-model-name", "a", "b", "a", "-tp", "2", "--port", "1")
    assert pod.base_models == ("a", "b")
    assert described("--model", "x", "--served-model-name=only").base_models == ("only",)


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        ("port", "0", "from 1 to 65535"),
        ("port", "http", "from 1 to 65535"),
        ("lora-memory", "lots", "such as 2Gi"),
        ("lora-memory", "0", "above zero"),
        ("lora-memory", "-1Gi", "above zero"),
        ("lora-memory", "9e99", "above zero"),
        ("max-loras", "", "whole number"),
        ("max-loras", "-3", "whole number"),
        ("max-cpu-loras", "4.5", "whole number"),
        ("max-lora-rank", "9999999999999999999", "whole number"),
        ("max-lora-rank", "१६", "whole number"),
        ("base-model", " ", "one base model"),
        ("base-model", "a,b", "one base model"),
        ("adapter-root", "adapters", "absolute path"),
        ("adapter-root", "/a/../../etc", "absolute path"),
    ],
)
def test_nonsense_in_an_annotation_names_it_its_value_and_what_is_expected(
    annotation: str, value: str, expected: str
) -> None:
    pod = described(*SAME, annotations={annotation: value})
    assert len(pod.problems) == 1
    assert f"annotation {GROUP}/{annotation} is {value!r}" in pod.problems[0] and expected in pod.problems[0]


def test_nonsense_in_an_argument_is_a_problem_too() -> None:
    pod = described("--max-loras", "many", "--max-lora-rank")
    assert [problem.split(" of container")[0] for problem in pod.problems] == [
        "argument --max-loras",
        "argument --max-lora-rank",
    ]


@pytest.mark.parametrize(
    "pod",
    [
        a_pod("--max-loras", "4", "--max-cpu-loras", "2"),
        a_pod("--max-loras", "2", "--max-cpu-loras", "3", annotations={"max-loras": "4"}),
        a_pod("--max-loras", "4", annotations={"max-cpu-loras": "1"}),
    ],
)
def test_fewer_host_slots_than_gpu_slots_is_a_problem(pod: dict[str, Any]) -> None:
    assert ["max-cpu-loras" in problem for problem in describe(pod, DEFAULTS).problems] == [True]


def test_long_and_unprintable_values_are_shown_short() -> None:
    pod = described(annotations={"port": "\n\x1b" + "9" * 1000, "adapter-root": "x" * 100_000})
    assert len(pod.problems) == 2
    assert all(len(problem) < 400 and problem.isprintable() for problem in pod.problems)


class TestApiKey:
    def test_the_variables_secret_is_referred_to(self) -> None:
        reference = {"secretKeyRef": {"name": "keys", "key": "vllm"}}
        pod = described(env=[{"name": "VLLM_API_KEY", "valueFrom": reference}])
        assert pod.api_key_ref == ApiKeyRef(secret=SecretKeyRef("keys", "vllm"))

    @pytest.mark.parametrize(
        ("command", "args"),
        [
            (["vllm", "serve", "m"], ["--api-key", "$(K)"]),
            (["vllm", "serve", "m"], ["--api-key=$(INDIRECT)"]),
            (["sh", "-c", 'vllm serve m --api-key "$K" --port 1'], []),
        ],
    )
    def test_an_argument_that_comes_from_a_secret_is_referred_to(self, command: list[str], args: list[str]) -> None:
        env = [
            {"name": "K", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "vllm"}}},
            {"name": "INDIRECT", "value": "$(K)"},
            {"name": "VLLM_API_KEY", "value": "not-this"},
        ]
        pod = described(*args, command=command, env=env)
        assert pod.api_key_ref == ApiKeyRef(secret=SecretKeyRef("keys", "vllm"))

    def test_a_literal_is_kept_and_never_shown(self) -> None:
        for pod in (
            described("--api-key", "s3cret", "other"),
            described(env=[{"name": "VLLM_API_KEY", "value": "s3cret"}]),
        ):
            assert pod.api_key_ref == ApiKeyRef(literal="s3cret")
            assert "s3cret" not in repr(pod)

    def test_what_the_pod_does_not_show_is_no_key(self) -> None:
        config = {"configMapKeyRef": {"name": "c", "key": "k"}}
        assert described(env=[{"name": "VLLM_API_KEY", "valueFrom": config}]).api_key_ref is None
        assert described(env=[{"name": "VLLM_API_KEY", "value": ""}]).api_key_ref is None


@pytest.mark.parametrize(
    ("args", "caching"),
    [
        ((), True),
        (("--no-enable-prefix-caching",), False),
        (("--no_enable_prefix_caching", "--enable-prefix-caching"), True),
        (("--enable-prefix-caching", "--no-enable-prefix-caching"), False),
        (("--enable-prefix-caching=false",), False),
    ],
)
def test_prefix_caching_is_on_unless_switched_off_last(args: tuple[str, ...], caching: bool) -> None:
    assert described("serve", "m", *args).prefix_caching is caching


def test_prefix_caching_may_be_on_where_options_follow_that_cannot_be_seen() -> None:
    assert described(command=["sh", "-c", "vllm serve m --no-enable-prefix-caching $EXTRA"]).prefix_caching


class TestLora:
    def test_a_visible_command_line_without_the_flag_means_off(self) -> None:
        pod = described("serve", "m", "--port", "1")
        assert not pod.lora_enabled
        assert (pod.lora_disabled or "").startswith(
            "container 'vllm' runs vLLM without --enable-lora; add it to its arguments, or if it has it all the same"
        )
        assert not described("m", "--enable-lora", "--no-enable-lora").lora_enabled

    @pytest.mark.parametrize(
        "pod",
        [
            a_pod(command=["/entrypoint.sh"]),
            a_pod(),
            a_pod("serve", "m", "--config", "/etc/vllm.yaml"),
            a_pod(command=["sh", "-c", "vllm serve m $EXTRA"]),
            a_pod("--port", "1", image="registry.example/mine:1"),
        ],
    )
    def test_what_is_not_visible_is_left_to_the_engine(self, pod: dict[str, Any]) -> None:
        assert describe(pod, DEFAULTS).lora_enabled

    def test_an_annotation_overrules_what_the_pod_looks_like(self) -> None:
        annotation = "lora-enabled"
        assert describe(a_pod("serve", "m", annotations={annotation: "true"}), DEFAULTS).lora_enabled
        assert not describe(a_pod("m", "--enable-lora", annotations={annotation: "False"}), DEFAULTS).lora_enabled
        (problem,) = describe(a_pod("m", annotations={annotation: "yes"}), DEFAULTS).problems
        assert "expected true or false" in problem

    @pytest.mark.parametrize(("value", "enabled"), [("True", True), ("1", True), ("0", False), ("", False)])
    def test_runtime_updating_switched_off_in_the_pod_means_off(self, value: str, enabled: bool) -> None:
        env = [{"name": "VLLM_ALLOW_RUNTIME_LORA_UPDATING", "value": value}]
        pod = described("m", "--enable-lora", env=env)
        assert pod.lora_enabled is enabled
        assert enabled or "VLLM_ALLOW_RUNTIME_LORA_UPDATING" in (pod.lora_disabled or "")

    def test_runtime_updating_set_in_a_script_counts(self) -> None:
        script = "export VLLM_ALLOW_RUNTIME_LORA_UPDATING=False; vllm serve m --enable-lora"
        assert not described(command=["sh", "-c", script]).lora_enabled


class TestWhichContainer:
    @pytest.mark.parametrize(
        ("others", "vllm"),
        [
            ([{"name": "router", "image": "vllm/router:1"}], {"name": "vllm", "image": "x", "args": ["--max-loras=7"]}),
            ([{"name": "proxy", "image": "envoy"}], {"name": "main", "image": OPENAI, "args": ["m", "--max-loras=7"]}),
            (
                [{"name": "agent", "image": "agent", "args": ["--url=http://vllm:8000"]}],
                {"name": "main", "image": "x", "command": ["sh", "-c", "vllm serve m --max-loras 7"]},
            ),
            ([], {"name": "main", "image": "x", "args": ["--max-loras=7"]}),
        ],
    )
    def test_is_found_wherever_it_stands(self, others: list[dict[str, Any]], vllm: dict[str, Any]) -> None:
        for containers in ([*others, vllm], [vllm, *others]):
            pod = a_pod()
            pod["spec"]["containers"] = containers
            said = describe(pod, DEFAULTS)
            assert (said.container, said.max_loras) == (vllm["name"], 7)


@pytest.mark.parametrize(
    ("image", "hint"),
    [
        ("vllm", None),
        ("localhost:5000/vllm", None),
        ("localhost:5000/vllm:v0.31.0@sha256:00", "v0.31.0"),
        ("vllm@sha256:00", None),
    ],
)
def test_the_images_tag_hints_at_the_release(image: str, hint: str | None) -> None:
    assert described(image=image).release_hint == hint


def test_takes_part_by_its_label() -> None:
    assert takes_part(described(labels={f"{GROUP}/lora": "enabled"}))
    assert not takes_part(described(labels={f"{GROUP}/lora": "disabled"}))
    assert not takes_part(described())


def test_the_same_pod_gives_an_equal_description() -> None:
    assert described(*SAME) == described(*SAME)
    assert described(*SAME) != replace(described(*SAME), port=1)
