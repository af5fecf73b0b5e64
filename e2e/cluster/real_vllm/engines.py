"""vLLM in pods: an image that is empty but for what a program of this machine needs to find there.

The environment that `make test-vllm` makes has 6 GB, and its interpreter and libraries are this machine's: all are
mounted from it, read-only, at the paths that they have here.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from e2e.cluster.archive import Image, layer_of_files, write_archive
from e2e.cluster.own_images import OPERATOR_IMAGE, OwnImages
from e2e.cluster.sample import BASE_MODEL
from e2e.vllm_cpu.places import environment, model_folder, python
from e2e.vllm_cpu.server import OFFLINE
from e2e.world.rest import Json

IMAGE = "vllm-cpu:mounted"
LINKS = ("bin", "lib", "lib64", "sbin")  # into usr, which is mounted
ACCOUNTS = "root:x:0:0:root:/tmp:/usr/sbin/nologin\n"


def write_image(to: Path) -> OwnImages:
    """The image as a file that `load` imports."""
    with tempfile.TemporaryDirectory(dir=to.parent) as scratch:
        root = Path(scratch, "root")
        files = {name: root / name for name in ("tmp", "usr", *LINKS)} | {"etc/passwd": root / "passwd"}
        for name in ("tmp", "usr"):
            files[name].mkdir(parents=True)
        for name in LINKS:
            files[name].symlink_to(f"usr/{name}")
        files["tmp"].chmod(0o1777)
        files["etc/passwd"].write_text(ACCOUNTS)
        layer = layer_of_files(files, Path(scratch, "layer.tar"))
        write_archive([Image([IMAGE], [layer], {"Env": ["PATH=/usr/bin:/bin"]})], to)
    return OwnImages(to, IMAGE)


def values(release: str, agent: str = OPERATOR_IMAGE) -> Json:
    """Of the pods' chart: two pods with this release."""
    interpreter = python(release).resolve().parents[1]
    mounted = {"usr": Path("/usr"), "environment": environment(release), "model": model_folder()}
    if not interpreter.is_relative_to("/usr"):
        mounted["interpreter"] = interpreter
    variables = OFFLINE | {"HOME": "/tmp", "VLLM_CACHE_ROOT": "/tmp/vllm", "TRITON_CACHE_DIR": "/tmp/triton"}
    variables |= {"OMP_NUM_THREADS": "1", "VLLM_SERVER_DEV_MODE": "1"}
    return {
        "models": [{"name": BASE_MODEL, "model": str(model_folder()), "servedModelName": BASE_MODEL, "replicas": 2}],
        "modelDefaults": {
            "image": IMAGE,
            "command": [str(python(release)), "-m", "vllm.entrypoints.cli.main", "serve"],
            "args": ["--enforce-eager", "--max-model-len=512", "--dtype=float32", "--block-size=128"],
            "env": [{"name": name, "value": value} for name, value in variables.items()],
            "gpus": 0,
            "resources": {"requests": {"cpu": "100m", "memory": "1Gi"}},
            "shmSize": "512Mi",
            "loraConfig": {"maxLoras": 2, "maxCpuLoras": 3, "maxLoraRank": 16, "memory": "1Gi"},
            "volumes": [
                {"name": name, "hostPath": {"path": str(path), "type": "Directory"}} for name, path in mounted.items()
            ],
            "volumeMounts": [
                {"name": name, "mountPath": str(path), "readOnly": True} for name, path in mounted.items()
            ],
        },
        "delivery": {"kind": "podDisk", "size": "64Mi", "cacheBytes": "32Mi", "agent": {"image": agent}},
    }
