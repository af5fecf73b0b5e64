"""What a user does with the real client of Hugging Face, told as JSON.

A process of its own: the client is configured by the environment when it is imported."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import HfHubHTTPError

ENDPOINT = sys.argv[1]
FIRST, SECOND, BAD, WORK = map(Path, sys.argv[2:6])


def refused(call: Callable[[], Any]) -> str:
    try:
        call()
    except (HfHubHTTPError, ValueError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return "done"


def told() -> dict[str, Any]:
    alice, bob = HfApi(ENDPOINT, token="token-of-alice"), HfApi(ENDPOINT, token="token-of-bob")
    said: dict[str, Any] = {"name": alice.whoami()["name"]}
    said["before"] = alice.repo_exists("alice/style")
    said["url"] = str(alice.create_repo("alice/style", private=True))
    said["again"] = str(alice.create_repo("style", exist_ok=True))
    said["twice"] = refused(lambda: alice.create_repo("alice/style"))
    said["created"] = alice.repo_exists("alice/style")
    first = alice.upload_folder(repo_id="alice/style", folder_path=FIRST)
    said["files"] = sorted(alice.list_repo_files("alice/style"))
    info = alice.model_info("alice/style", files_metadata=True)
    said["info"] = {"sha": info.sha, "first": first.oid, "tags": info.tags, "private": info.private}
    said["sizes"] = {each.rfilename: each.size for each in info.siblings or ()}
    folder = Path(snapshot_download("alice/style", endpoint=ENDPOINT, token="token-of-alice", cache_dir=WORK / "cache"))
    said["read back"] = {each.name: each.read_bytes() == (FIRST / each.name).read_bytes() for each in folder.iterdir()}
    weights = SECOND / "adapter_model.safetensors"
    added = [CommitOperationAdd("adapter_model.safetensors", str(weights))]
    second = alice.create_commit("alice/style", added, commit_message="better")
    said["second"] = second.oid != first.oid == alice.model_info("alice/style", revision="v1").sha
    options: dict[str, Any] = {"endpoint": ENDPOINT, "token": "token-of-alice", "local_dir": WORK / "here"}
    found = Path(hf_hub_download("alice/style", "adapter_model.safetensors", **options))
    said["newest"] = found.read_bytes() == weights.read_bytes()
    shutil.rmtree(WORK / "here")
    found = Path(hf_hub_download("alice/style", "adapter_model.safetensors", revision=first.oid, **options))
    said["oldest"] = found.read_bytes() == (FIRST / weights.name).read_bytes()
    alice.upload_file(path_or_fileobj=b"# Mine", path_in_repo="README.md", repo_id="alice/style")
    said["commits"] = [each.title for each in alice.list_repo_commits("alice/style")]
    said["exists"] = [alice.file_exists("alice/style", each) for each in ("README.md", "other.txt")]
    said["bad"] = refused(lambda: alice.upload_folder(repo_id="alice/style", folder_path=BAD))
    pickle = WORK / "pickle"
    pickle.mkdir()
    (pickle / "adapter_model.bin").write_bytes(b"\x80\x04")
    said["pickle"] = refused(lambda: alice.upload_folder(repo_id="alice/style", folder_path=pickle))
    said["branch"] = refused(lambda: alice.upload_folder(repo_id="alice/style", folder_path=FIRST, revision="dev"))
    said["bob"] = [
        refused(lambda: bob.model_info("alice/style")),
        refused(lambda: bob.hf_hub_download("alice/style", "README.md", cache_dir=WORK / "bob")),
        refused(lambda: bob.upload_folder(repo_id="alice/style", folder_path=FIRST)),
        refused(lambda: bob.create_repo("alice/other")),
        refused(lambda: bob.delete_repo("alice/style")),
    ]
    said["listed"] = [[each.id for each in api.list_models(author="alice")] for api in (alice, bob)]
    said["stranger"] = refused(lambda: HfApi(ENDPOINT, token="nobody-knows-it").whoami())
    # file by file: an adapter once both are there
    alice.create_repo("alice/slow")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        alice.upload_file(path_or_fileobj=FIRST / name, path_in_repo=name, repo_id="alice/slow")
    said["slow"] = sorted(alice.list_repo_files("alice/slow"))
    alice.delete_repo("alice/style")
    said["gone"] = alice.repo_exists("alice/style")
    return said


print(json.dumps(told()))
