"""The certificate of the webhook that injects agents: kept by upgrades, renewed in time, and believed all the while."""

from __future__ import annotations

import base64
import json
import time
from datetime import timedelta
from typing import Any

import pytest
import yaml
from cryptography import x509

from e2e.controlplane import ControlPlane
from e2e.controlplane.helm import run_helm
from tests.helm.charts import OPERATOR, only

pytestmark = pytest.mark.cluster

NAME = "lora-operator-webhook"
RENEW_AT = "production-stack.vllm-project/renew-at"
Json = dict[str, Any]


def upgraded(plane: ControlPlane, namespace: str, **values: int) -> Json:
    """The Secret after an upgrade, which the configuration believes."""
    chosen = {"image.repository": "a", "agentInjection.by": "webhook"}
    chosen |= {f"agentInjection.webhook.{name}": str(value) for name, value in values.items()}
    text = run_helm(
        "template", "lora-operator", str(OPERATOR), "--namespace", namespace, "--dry-run=server", "--is-upgrade",
        "--show-only", "templates/agent-webhook.yaml", "--set", ",".join(f"{k}={v}" for k, v in chosen.items()),
        kubeconfig=plane.kubeconfig,
    )  # fmt: skip
    objects = [one for one in yaml.safe_load_all(text) if one]
    secret = only(objects, "Secret", NAME)
    (hook,) = only(objects, "MutatingWebhookConfiguration")["webhooks"]
    assert hook["clientConfig"]["caBundle"] == secret["data"]["ca.crt"]
    plane.kubectl("apply", "-f", "-", input=json.dumps(secret), namespace=namespace)
    return dict(secret)


def certificates(secret: Json, key: str) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(base64.b64decode(secret["data"][key]))


def test_it_is_renewed_after_half_of_its_life_and_the_former_one_is_believed_until_the_next(
    control_plane: ControlPlane, namespace: str
) -> None:
    first = upgraded(control_plane, namespace)
    (shown,) = certificates(first, "tls.crt")
    shown.verify_directly_issued_by(*certificates(first, "ca.crt"))
    assert upgraded(control_plane, namespace)["data"] == first["data"]
    control_plane.kubectl("annotate", f"secret/{NAME}", f"{RENEW_AT}-", namespace=namespace)
    assert upgraded(control_plane, namespace)["data"] == first["data"], "charts before this annotation had none"

    due = str(int(time.time()) - 1)
    control_plane.kubectl("annotate", "--overwrite", f"secret/{NAME}", f"{RENEW_AT}={due}", namespace=namespace)
    second = upgraded(control_plane, namespace)
    (renewed,) = certificates(second, "tls.crt")
    authority, former = certificates(second, "ca.crt")
    assert renewed != shown
    renewed.verify_directly_issued_by(authority)
    shown.verify_directly_issued_by(former)
    assert upgraded(control_plane, namespace)["data"] == second["data"]


def test_a_shorter_life_counts_from_the_next_upgrade_on(control_plane: ControlPlane, namespace: str) -> None:
    first = upgraded(control_plane, namespace)
    second = upgraded(control_plane, namespace, certificateDays=30)
    third = upgraded(control_plane, namespace, certificateDays=10)
    (shown,) = certificates(third, "tls.crt")
    assert shown.not_valid_after_utc - shown.not_valid_before_utc == timedelta(days=10)
    authorities = certificates(third, "ca.crt")
    assert len(authorities) == 2 and authorities[1] == certificates(second, "ca.crt")[0]
    assert upgraded(control_plane, namespace, certificateDays=3650)["data"] == third["data"] != first["data"]
