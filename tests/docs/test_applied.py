"""The API server takes every LoraAdapter that the pages show, to the last field."""

from __future__ import annotations

import pytest
import yaml

from e2e.controlplane import ControlPlane
from lora_operator.api.v1alpha1 import GROUP, KIND, PLURAL
from tests.docs.pages import ROOT
from tests.docs.test_examples import resources

pytestmark = pytest.mark.cluster


def test_every_loraadapter_on_a_page_is_accepted_by_the_api_server(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
    control_plane.wait_established(f"{PLURAL}.{GROUP}")
    shown = [body for _, body in resources() if body["kind"] == KIND]
    for number, body in enumerate(shown):
        body["metadata"] |= {"namespace": namespace, "name": f"{body['metadata']['name']}-{number}"}
    text = yaml.safe_dump_all(shown)
    said = control_plane.kubectl("create", "--dry-run=server", "--validate=strict", "-f", "-", input=text)
    assert said.count("created") == len(shown)
