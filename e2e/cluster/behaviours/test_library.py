"""The user library by its chart values, with a store of S3: a user uploads, asks through the gateway, and deletes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.behaviours.client import digest_of
from e2e.cluster.behaviours import s3
from e2e.cluster.behaviours.installation import GATEWAY, OPERATOR_RELEASE, SYSTEM, Installation
from e2e.cluster.behaviours.page import run
from e2e.cluster.sample import BASE_MODEL, TEAM
from e2e.world.adapters import write_adapter
from e2e.world.rest import GROUP
from e2e.world.world import eventually

SECRET = "library-store"
LIBRARY = f"{OPERATOR_RELEASE}-library"
VALUES: dict[str, object] = {
    "library": {
        "enabled": True,
        "namespace": TEAM,
        "storeSecret": SECRET,
        "operatorSecret": s3.SECRET,
        "settings": {
            "store": f"s3://{s3.BUCKET}/loras",
            "storeEndpoint": f"http://{s3.NAME}.{TEAM}.svc:{s3.PORT}",
            "storeRegion": s3.REGION,
            "tokenReview": True,
        },
    },
    "credentialSecrets": [{"namespace": TEAM, "name": s3.SECRET}],
}
UPLOAD = """
curl -sS -H "Authorization: Bearer $TOKEN" $LIBRARY/api/loras/upload \\
  -F file=@adapter_config.json -F file=@adapter_model.safetensors -F name=style -F 'tags[]=poetry' \\
  -F 'metadata={"run": 42}'
"""
ASK = """
curl -sS -w '\\n%{http_code}' $GATEWAY/v1/chat/completions -H 'Content-Type: application/json' -d '{
  "model": "'$MODEL'", "messages": [{"role": "user", "content": "Who are you?"}]}'
"""
DELETE = 'curl -sS -f -X DELETE -H "Authorization: Bearer $TOKEN" $LIBRARY$URL'


@pytest.fixture(scope="module")
def library(installed: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    kube = installed.kube
    if kube.cluster is None:
        pytest.skip("this machine has no route to the Services of that cluster")
    kube.load(s3.write_image(tmp_path_factory.mktemp("s3") / "s3.tar"))
    kube.apply(*s3.objects())
    kube.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET, "namespace": SYSTEM},
                "stringData": s3.KEYS})  # fmt: skip
    kube.run("wait", "--for=condition=Ready", f"pod/{s3.NAME}", "--timeout=120s", namespace=TEAM)
    s3.upload(kube, {})
    kube.run("create", "serviceaccount", "alice", namespace=TEAM)
    installed.upgrade_operator("--wait", "--timeout", "300s", **VALUES)
    yield installed
    kube.run("delete", "serviceaccount/alice", f"pod/{s3.NAME}", f"service/{s3.NAME}", namespace=TEAM)
    installed.upgrade_operator("--wait", "--timeout", "300s")
    kube.run("delete", f"secret/{SECRET}", f"pvc/{LIBRARY}", namespace=SYSTEM)


def address(installed: Installation, service: str) -> str:
    found = installed.kube.rest.get(f"/api/v1/namespaces/{SYSTEM}/services/{service}")["spec"]
    return f"http://{found['clusterIP']}:{found['ports'][0]['port']}"


def written(installed: Installation) -> list[str]:
    """The LoraAdapters of the library."""
    listed = installed.kube.rest.get(f"{GROUP}/namespaces/{TEAM}/loraadapters")["items"]
    return [name for one in listed if (name := str(one["metadata"]["name"])).startswith("library-")]


def test_user_uploads_an_adapter_is_answered_by_it_and_deletes_it(library: Installation, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "mine", base_model=BASE_MODEL, seed=41)
    given = {
        "TOKEN": library.kube.run("create", "token", "alice", namespace=TEAM).strip(),
        "LIBRARY": address(library, LIBRARY),
        "GATEWAY": address(library, GATEWAY.partition(".")[0]),
    }
    made = json.loads(run(library.kube, UPLOAD, adapter, given))
    given |= {"MODEL": made["model"], "URL": made["url"]}

    def asked() -> tuple[str, str]:
        body, _, status = run(library.kube, ASK, variables=given).rpartition("\n")
        return status, body

    eventually(lambda: f"weights={digest_of(adapter)}" in asked()[1], 120, what=("the gateway answers", made["model"]))
    run(library.kube, DELETE, variables=given)
    eventually(lambda: asked()[0] == "404", 120, what=("nobody is answered by it any more",))
    eventually(lambda: not written(library), 120, what=("its LoraAdapter is gone",))
