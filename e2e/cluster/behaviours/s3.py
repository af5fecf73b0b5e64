"""An S3 server in the cluster: versitygw on a folder of its pod."""

from __future__ import annotations

from pathlib import Path

import boto3
from botocore.config import Config

from e2e.cluster.archive import write_program_image
from e2e.cluster.behaviours.kube import Kube
from e2e.cluster.own_images import OwnImages
from e2e.cluster.programs import VERSITYGW, find_program
from e2e.cluster.sample import TEAM
from e2e.world.rest import Json

NAME = "s3"
IMAGE = "versitygw:local"
PORT = 7070
BUCKET = "adapters"
SECRET = "source-credentials"
KEYS = {"AWS_ACCESS_KEY_ID": "test-access", "AWS_SECRET_ACCESS_KEY": "test-secret-key"}
REGION = "us-east-1"


def write_image(to: Path) -> OwnImages:
    """The image as a file that `load` imports."""
    write_program_image(IMAGE, {"versitygw": find_program(VERSITYGW)}, to)
    return OwnImages(to, IMAGE)


def objects() -> list[Json]:
    """Its pod and Service, and the Secret that LoraAdapters refer to."""
    labels = {"app": NAME}
    container = {
        "name": NAME,
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "args": [f"--port=:{PORT}", f"--region={REGION}", "posix", "/data"],
        "env": [
            {"name": "ROOT_ACCESS_KEY", "value": KEYS["AWS_ACCESS_KEY_ID"]},
            {"name": "ROOT_SECRET_KEY", "value": KEYS["AWS_SECRET_ACCESS_KEY"]},
        ],
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    spec = {"containers": [container], "volumes": [{"name": "data", "emptyDir": {}}]}
    named = {"name": NAME, "namespace": TEAM, "labels": labels}
    return [
        {"apiVersion": "v1", "kind": "Pod", "metadata": named, "spec": spec},
        {"apiVersion": "v1", "kind": "Service", "metadata": named,
         "spec": {"selector": labels, "ports": [{"port": PORT}]}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET, "namespace": TEAM}, "stringData": KEYS},
    ]  # fmt: skip


def upload(kube: Kube, folders: dict[str, Path]) -> None:
    """Make the bucket, with each folder's files under its name. This machine has a route to Services."""
    address = kube.rest.get(f"/api/v1/namespaces/{TEAM}/services/{NAME}")["spec"]["clusterIP"]
    client = boto3.client(
        "s3", endpoint_url=f"http://{address}:{PORT}", region_name=REGION,
        aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"], aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
        config=Config(proxies={}),
    )  # fmt: skip
    client.create_bucket(Bucket=BUCKET)
    for name, folder in folders.items():
        for file in folder.iterdir():
            client.upload_file(str(file), BUCKET, f"{name}/{file.name}")


def source(name: str) -> Json:
    """What a LoraAdapter says of the adapter `name`."""
    return {
        "adapterSource": {
            "type": "s3", "repository": f"{BUCKET}/{name}", "region": REGION,
            "endpoint": f"http://{NAME}.{TEAM}.svc:{PORT}",
        },
        "credentialsSecretRef": {"name": SECRET},
    }  # fmt: skip
