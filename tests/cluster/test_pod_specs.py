"""From a pod's specification to what is started and reported, without a cluster."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from e2e.pods import AddressError
from e2e.pods.addresses import AddressBook
from e2e.pods.manifests import vllm_statefulset
from e2e.pods.podspec import Launch, SpecError, launch, references, sidecars_of
from e2e.pods.programs import Program, UnknownImage, image_name, known_programs, program_of
from e2e.pods.status import ContainerState, is_ready, pod_status
from e2e.pods.volumes import files_of, parts_of, write_files

NOW = "2026-01-01T00:00:00Z"
FOLDER = Path("/run/pod")


def a_pod(
    *, args: list[str] | None = None, env: list[dict[str, Any]] | None = None, **container: Any
) -> dict[str, Any]:
    full = {"name": "vllm", "image": "vllm-sim", "args": args or [], "env": env or [], **container}
    volumes = [
        {"name": "scratch", "emptyDir": {}},
        {"name": "host", "hostPath": {"path": "/srv/adapters"}},
        {"name": "token", "projected": {"sources": []}},
    ]
    return {
        "metadata": {"namespace": "ns", "name": "vllm-0", "uid": "u1", "labels": {"app": "vllm"}},
        "spec": {"nodeName": "node-0", "containers": [full], "volumes": volumes},
        "status": {},
    }


def started(pod: dict[str, Any], sources: dict[tuple[str, str], Any] | None = None) -> Launch:
    program = Program(("program",))
    return launch(pod, pod["spec"]["containers"][0], program, ip="127.20.0.2", directory=FOLDER, sources=sources or {})


def test_address_is_appended_and_the_port_of_the_arguments_is_probed() -> None:
    assert started(a_pod(args=["--port", "9000"])).arguments == ("--port", "9000", "--host", "127.20.0.2")
    assert started(a_pod(args=["--port", "9000"])).probe == "http://127.20.0.2:9000/health"
    assert started(a_pod(args=["--port=9001"])).probe == "http://127.20.0.2:9001/health"
    assert started(a_pod()).probe == "http://127.20.0.2:8000/health"


def test_readiness_probe_of_the_container_wins() -> None:
    probe = {"httpGet": {"path": "/ping", "port": "web"}, "failureThreshold": 7}
    found = started(a_pod(readinessProbe=probe, ports=[{"name": "web", "containerPort": 81}]))
    assert (found.probe, found.failure_threshold) == ("http://127.20.0.2:81/ping", 7)
    with pytest.raises(SpecError, match="container vllm has no port named 'web'"):
        started(a_pod(readinessProbe=probe))


@pytest.mark.parametrize(
    ("word", "becomes"),
    [
        ("/scratch", "/run/pod/volumes/scratch"),
        ("/scratch/a", "/run/pod/volumes/scratch/a"),
        ("--dir=/scratch/a", "--dir=/run/pod/volumes/scratch/a"),
        ("name=/scratch/a,/scratch/b", "name=/run/pod/volumes/scratch/a,/run/pod/volumes/scratch/b"),
        ('{"path": "/scratch"}', '{"path": "/run/pod/volumes/scratch"}'),
        ("/scratchy", "/scratchy"),
        ("/other/scratch", "/other/scratch"),
        ("/adapters/a", "/srv/adapters/a"),
        ("/same/a", "/same/a"),
    ],
)
def test_mounted_paths_become_paths_of_this_machine(word: str, becomes: str) -> None:
    mounts = [
        {"name": "scratch", "mountPath": "/scratch/"},
        {"name": "host", "mountPath": "/adapters"},
        {"name": "token", "mountPath": "/var/run/secrets"},
    ]
    pod = a_pod(args=[word], env=[{"name": "A", "value": word}], volumeMounts=mounts)
    assert started(pod).arguments[0] == becomes
    assert started(pod).environment["A"] == becomes


def test_variables_come_from_values_fields_secrets_and_each_other() -> None:
    env = [
        {"name": "PLAIN", "value": "x"},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
        {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        {"name": "MAYBE", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k", "optional": True}}},
        {"name": "BOTH", "value": "$(PLAIN)-$(IP) $(LATER) $$(PLAIN)"},
    ]
    pod = a_pod(env=env, args=["--key", "$(KEY)"])
    assert references(pod) == [("secrets", "s", False), ("configmaps", "c", True)]
    found = started(pod, {("secrets", "s"): {"data": {"k": base64.b64encode(b"open").decode()}}})
    assert found.environment == {
        "PLAIN": "x",
        "IP": "127.20.0.2",
        "APP": "vllm",
        "KEY": "open",
        "BOTH": "x-127.20.0.2 $(LATER) $(PLAIN)",
    }
    assert found.arguments[:2] == ("--key", "open")
    with pytest.raises(SpecError, match="variable KEY: secret s has no key k"):
        started(pod, {("secrets", "s"): {"data": {}}})


def test_secrets_and_config_maps_are_files_of_volumes_and_mounted_where_the_container_looks(tmp_path: Path) -> None:
    pod = a_pod(
        args=["--token-file=/etc/agent/token", "--conf", "/etc/one.yaml", "--both", "/etc/both/b"],
        volumeMounts=[
            {"name": "agent", "mountPath": "/etc/agent"},
            {"name": "conf", "mountPath": "/etc/one.yaml", "subPath": "deep/one.yaml"},
            {"name": "both", "mountPath": "/etc/both"},
        ],
    )
    projected = [{"secret": {"name": "token"}}, {"configMap": {"name": "maybe", "optional": True}}]
    mixed = [{"serviceAccountToken": {"path": "token"}}, {"configMap": {"name": "kube-root-ca.crt"}}]
    pod["spec"]["volumes"] += [
        {"name": "agent", "secret": {"secretName": "token"}},
        {"name": "conf", "configMap": {"name": "conf", "items": [{"key": "a", "path": "deep/one.yaml"}]}},
        {"name": "both", "projected": {"sources": projected}},
        {"name": "kube-api-access", "projected": {"sources": mixed}},
    ]
    assert references(pod) == [
        ("secrets", "token", False),
        ("configmaps", "conf", False),
        ("configmaps", "maybe", True),
    ]
    assert started(pod).arguments[:5] == (
        "--token-file=/run/pod/volumes/agent/token", "--conf", "/run/pod/volumes/conf/deep/one.yaml",
        "--both", "/run/pod/volumes/both/b",
    )  # fmt: skip
    objects = {
        ("secrets", "token"): {"data": {"token": base64.b64encode(b"s3cret").decode()}},
        ("configmaps", "conf"): {"data": {"a": "x: 1", "b": "not asked for"}},
    }
    files = {name: files_of(parts, objects) for name, parts in parts_of(pod).items()}
    assert files == {"agent": {"token": b"s3cret"}, "conf": {"deep/one.yaml": b"x: 1"}, "both": {"token": b"s3cret"}}
    write_files(tmp_path, {"old": b"1", "deep/one": b"2"})
    write_files(tmp_path, {"deep/one": b"3"})
    assert [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()] == [b"3"]


def test_what_is_not_played_is_refused_by_name() -> None:
    with pytest.raises(SpecError, match=r"field status\.phase is not played here"):
        started(a_pod(env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.phase"}}}]))
    with pytest.raises(SpecError, match="variable A: valueFrom resourceFieldRef is not played here"):
        started(a_pod(env=[{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}]))


def test_image_decides_the_program() -> None:
    assert image_name("example.com:5000/vllm/vllm-openai:v0.32.0@sha256:00") == "vllm-openai"
    programs = known_programs({"LORA_OPERATOR_VLLM_PYTHON": "/opt/python"})
    assert program_of("vllm", programs).command == ("/opt/python", "-m", "vllm.entrypoints.openai.api_server")
    with pytest.raises(UnknownImage, match="known are lora-operator, vllm-sim; set LORA_OPERATOR_VLLM_PYTHON"):
        program_of("vllm:1", known_programs({}))


def status_of(pod: dict[str, Any], *, ready: bool = True) -> dict[str, Any]:
    state = ContainerState("vllm", "vllm-sim", {"running": {"startedAt": NOW}}, ready=ready)
    return pod_status(pod, [state], ip="127.20.0.2", host_ip="127.20.254.1", start_time=NOW, now=NOW)


def test_pod_is_ready_when_its_containers_are_and_its_gates_are_open() -> None:
    pod = a_pod()
    assert is_ready(status_of(pod))
    assert not is_ready(status_of(pod, ready=False))
    pod["spec"]["readinessGates"] = [{"conditionType": "a/b"}]
    assert not is_ready(status_of(pod))
    pod["status"]["conditions"] = [{"type": "a/b", "status": "True"}]
    assert is_ready(status_of(pod))
    assert "a/b" not in [item["type"] for item in status_of(pod)["conditions"]]


def test_transition_time_moves_only_with_the_status() -> None:
    pod = a_pod()
    pod["status"]["conditions"] = [
        {"type": "Ready", "status": "True", "lastTransitionTime": "2025-01-01T00:00:00Z"},
        {"type": "ContainersReady", "status": "False", "lastTransitionTime": "2025-01-01T00:00:00Z", "reason": "Old"},
    ]
    found = {item["type"]: item for item in status_of(pod)["conditions"]}
    assert found["Ready"]["lastTransitionTime"] == "2025-01-01T00:00:00Z"
    assert found["ContainersReady"]["lastTransitionTime"] == NOW
    assert found["ContainersReady"]["reason"] is None, "a patch removes a key by null"


def test_a_startup_probe_is_asked_before_the_readiness_probe() -> None:
    probe = {"httpGet": {"path": "/up", "port": 81}}
    assert started(a_pod(startupProbe=probe)).startup == "http://127.20.0.2:81/up"
    assert started(a_pod()).startup is None


def test_native_sidecars_count_for_the_pod_and_other_init_containers_do_not() -> None:
    pod = a_pod()
    pod["spec"]["initContainers"] = [{"name": "once"}, {"name": "agent", "restartPolicy": "Always"}]
    assert [item["name"] for item in sidecars_of(pod)] == ["agent"]
    running = {"running": {"startedAt": NOW}}
    engine = ContainerState("vllm", "vllm-sim", running, ready=True, started=True)

    def status(**agent: bool) -> dict[str, Any]:
        sidecar = ContainerState("agent", "lora-operator", running, **agent)
        more = {"ip": "127.20.0.2", "host_ip": "127.20.254.1", "start_time": NOW, "now": NOW}
        return pod_status(pod, [engine], sidecars=[sidecar], **more)

    def conditions(**agent: bool) -> dict[str, str]:
        return {item["type"]: item["status"] for item in status(**agent)["conditions"]}

    assert is_ready(status(ready=True, started=True))
    assert conditions(started=True)["ContainersReady"] == "False" and conditions(started=True)["Initialized"] == "True"
    assert conditions()["Initialized"] == "False"
    assert [item["name"] for item in status()["initContainerStatuses"]] == ["agent"]


def test_pod_without_a_started_container_is_pending() -> None:
    state = ContainerState("vllm", "vllm-sim")
    status = pod_status(a_pod(), [state], ip="127.20.0.2", host_ip="127.20.254.1", start_time=NOW, now=NOW)
    assert status["phase"] == "Pending"
    assert status["containerStatuses"][0]["state"]["waiting"]["reason"] == "ContainerCreating"


def test_address_stays_with_the_pod_and_does_not_come_back_soon(tmp_path: Path) -> None:
    book = AddressBook(tmp_path / "addresses.json", "127.20.0.0/16")
    first = book.give("a")
    assert book.give("a") == first == "127.20.0.2"
    book.take_back("a")
    book.close()
    again = AddressBook(tmp_path / "addresses.json")
    given = [again.give(str(number)) for number in range(600)]
    assert len(set(given)) == 600 and first not in given
    assert not any(address.endswith((".0", ".255")) for address in given)
    again.keep_only(["0"])
    again.close()
    last = AddressBook(tmp_path / "addresses.json")
    assert last.give("0") == given[0]
    last.close()


def test_two_runners_get_different_subnets(tmp_path: Path) -> None:
    one, other = AddressBook(tmp_path / "one.json"), AddressBook(tmp_path / "other.json")
    try:
        assert one.network != other.network
    finally:
        one.close()
        other.close()


@pytest.mark.parametrize("subnet", ["10.0.0.0/16", "127.20.0.0/24", "nonsense"])
def test_subnet_that_cannot_be_used_is_refused(tmp_path: Path, subnet: str) -> None:
    with pytest.raises(AddressError, match=f"subnet '{subnet}'.*"):
        AddressBook(tmp_path / "addresses.json", subnet)


def test_statefulset_says_what_the_operator_reads() -> None:
    root = Path("/srv/adapters")
    manifest = vllm_statefulset(
        "vllm", 2, "org/model", annotations={"max-loras": "4", "other/key": "x"}, adapter_root=root, args=["--x"]
    )
    template = manifest["spec"]["template"]
    assert template["metadata"]["labels"] == {
        "app": "vllm",
        "lora-operator.dev/test-pod": "true",
        "production-stack.vllm-project/lora": "enabled",
    }
    assert template["metadata"]["annotations"] == {
        "production-stack.vllm-project/base-model": "org/model",
        "production-stack.vllm-project/port": "8000",
        "production-stack.vllm-project/adapter-root": "/srv/adapters",
        "production-stack.vllm-project/max-loras": "4",
        "other/key": "x",
    }
    container = template["spec"]["containers"][0]
    assert container["args"] == ["--model", "org/model", "--enable-lora", "--port", "8000", "--x"]
    assert container["volumeMounts"] == [{"name": "adapters", "mountPath": "/srv/adapters"}]


def test_folder_as_model_is_served_under_the_base_models_name() -> None:
    manifest = vllm_statefulset("vllm", 1, "org/model", args=["--model", "/models/tiny"])
    args = manifest["spec"]["template"]["spec"]["containers"][0]["args"]
    assert args == ["--served-model-name", "org/model", "--enable-lora", "--port", "8000", "--model", "/models/tiny"]
