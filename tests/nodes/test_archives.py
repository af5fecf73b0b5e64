"""Images as files: what a container runtime reads of them."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path

import pytest

from e2e.cluster.archive import Image, layer_of_tree, write_archive, write_program_image
from e2e.cluster.errors import ImageError
from e2e.cluster.existing import load_command
from e2e.cluster.own_images import digest, simulator_config


def read_json(archive: Path, name: str) -> object:
    with tarfile.open(archive) as tar:
        file = tar.extractfile(name)
        assert file is not None
        return json.loads(file.read())


def test_image_of_a_program_holds_it_as_root_and_runs_it(tmp_path: Path) -> None:
    program = tmp_path / "pause"
    program.write_bytes(b"program")
    program.chmod(0o755)
    archive = tmp_path / "pause.tar"
    write_program_image("localhost/pause:1", {"pause": program}, archive)
    (entry,) = read_json(archive, "manifest.json")  # type: ignore[misc]
    assert entry["RepoTags"] == ["localhost/pause:1"]
    config = read_json(archive, entry["Config"])
    assert config["config"] == {"Entrypoint": ["/pause"]}  # type: ignore[index]
    with tarfile.open(archive) as tar:
        layer = tar.extractfile(entry["Layers"][0])
        assert layer is not None
        content = layer.read()
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(content).hexdigest()}"]  # type: ignore[index]
    (tmp_path / "layer.tar").write_bytes(content)
    with tarfile.open(tmp_path / "layer.tar") as tar:
        member = tar.getmember("pause")
        assert (member.uid, member.gid, member.mode & 0o777, member.mtime) == (0, 0, 0o755, 0)


def test_same_programs_give_the_same_image(tmp_path: Path) -> None:
    program = tmp_path / "pause"
    program.write_bytes(b"program")
    images = []
    for name in ("a.tar", "b.tar"):
        write_program_image("localhost/pause:1", {"pause": program}, tmp_path / name)
        (entry,) = read_json(tmp_path / name, "manifest.json")  # type: ignore[misc]
        images.append(entry["Config"])
    assert images[0] == images[1]


def test_layer_of_a_tree_keeps_links_and_modes_and_is_written_once_for_two_images(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "tmp").mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    (root / "link").symlink_to("tmp")
    layer = layer_of_tree(root, tmp_path / "layer.tar")
    write_archive([Image(["x:1"], [layer], {}), Image(["y:1", "y:2"], [layer], {})], tmp_path / "x.tar")
    with tarfile.open(layer.file) as tar:
        assert tar.getmember("tmp").mode & 0o7777 == 0o1777
        assert tar.getmember("link").linkname == "tmp"
    with tarfile.open(tmp_path / "x.tar") as tar:
        assert [name for name in tar.getnames() if name.endswith("layer.tar")] == [f"{layer.digest}/layer.tar"]
    images = read_json(tmp_path / "x.tar", "manifest.json")
    assert [image["RepoTags"] for image in images] == [["x:1"], ["y:1", "y:2"]]  # type: ignore[attr-defined]


def test_image_is_built_anew_when_a_source_changes_and_not_for_bytecode(tmp_path: Path) -> None:
    (tmp_path / "package" / "__pycache__").mkdir(parents=True)
    (tmp_path / "package" / "one.py").write_text("1")
    before = digest(("package",), tmp_path)
    (tmp_path / "package" / "__pycache__" / "one.pyc").write_text("x")
    assert digest(("package",), tmp_path) == before
    (tmp_path / "package" / "one.py").write_text("2")
    assert digest(("package",), tmp_path) != before


def test_simulators_image_differs_from_the_operators_in_what_it_runs_alone() -> None:
    operator = {"User": "65532:65532", "Env": ["PATH=/opt/lora-operator/bin"], "Entrypoint": ["lora-operator"]}
    config = simulator_config(operator)  # type: ignore[arg-type]
    assert config["User"] == "65532:65532"
    assert config["Env"] == ["PATH=/opt/lora-operator/bin", "PYTHONPATH=/opt/vllm-sim"]
    assert config["Entrypoint"] == ["python3", "-m", "e2e.vllm_sim", "--sim-bind=0.0.0.0"]


def test_existing_clusters_of_kind_and_minikube_are_loaded_by_their_own_commands() -> None:
    archive = Path("/tmp/image.tar")
    assert load_command("kind-team", archive) == ["kind", "load", "image-archive", "/tmp/image.tar", "--name", "team"]
    assert load_command("minikube", archive) == ["minikube", "image", "load", "/tmp/image.tar"]


def test_other_clusters_get_their_images_from_a_registry() -> None:
    with pytest.raises(ImageError, match=r"context 'prod'.*registry"):
        load_command("prod", Path("/tmp/image.tar"))
