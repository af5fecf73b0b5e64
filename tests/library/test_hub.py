"""The real client of Hugging Face, against a library: what it pushes is an adapter, and it reads it back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from e2e.world.adapters import write_adapter
from lora_library.hub.naming import hub_name
from lora_library.web import hub_commits
from lora_library.web.app import application
from lora_library.web.serving import Server
from lora_operator.process.listening import open_port
from tests.library.conftest import Running, served

WEIGHTS = "adapter_model.safetensors"


@contextlib.asynccontextmanager
async def listening(library: Running) -> AsyncIterator[str]:
    """Where it is served."""
    port = open_port("127.0.0.1", 0)
    server = Server(application(library.parts.library))
    serving = asyncio.create_task(server.run_on(port))
    try:
        yield f"http://127.0.0.1:{port.getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving


async def session(folder: Path, endpoint: str, **environment: str) -> dict[str, Any]:
    """What the user of `hub_session.py` was told."""
    first, second = (write_adapter(folder / f"a{n}", base_model="tiny", seed=n) for n in (0, 1))
    (first / "README.md").write_text("---\nlibrary_name: peft\n---\n# Style\n")
    (first / "training_args.bin").write_bytes(b"\x80\x04")
    bad = write_adapter(folder / "bad", base_model="tiny", seed=2)
    weights = bad / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\xff\xff\xff\xff")  # NaN
    work = folder / "user"
    work.mkdir()
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(Path(__file__).with_name("hub_session.py")), endpoint,
        *map(str, (first, second, bad, work)), stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "HF_HOME": str(work / "hf"), "HF_HUB_DISABLE_PROGRESS_BARS": "1", **environment},
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode == 0
    return dict(json.loads(out.decode().splitlines()[-1]))


@pytest.mark.parametrize("large", [False, True], ids=["in the commit", "by LFS in pieces"])
async def test_what_the_hubs_client_pushes_is_an_adapter_that_it_reads_back(
    tmp_path: Path, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if large:
        monkeypatch.setattr(hub_commits, "REGULAR_BYTES", 100)
        monkeypatch.setattr(hub_commits, "PIECE_BYTES", 4000)
    async with served(tmp_path) as library, listening(library) as endpoint:
        said = await session(tmp_path, endpoint, **({"HF_HUB_DISABLE_XET": "1"} if large else {}))
        assert (said["name"], said["before"], said["created"], said["gone"]) == ("alice", False, True, False)
        assert said["url"] == said["again"] == f"{endpoint}/alice/style"
        assert "409" in said["twice"]
        files = ["README.md", "adapter_config.json", "adapter_model.safetensors"]
        assert said["files"] == files
        assert said["read back"] == dict.fromkeys(files, True)
        assert said["info"]["sha"] == said["info"]["first"]
        assert "peft" in said["info"]["tags"] and "base_model:adapter:tiny" in said["info"]["tags"]
        assert said["sizes"]["adapter_model.safetensors"] == (tmp_path / "a0/adapter_model.safetensors").stat().st_size
        assert said["second"] and said["newest"] and said["oldest"]
        assert said["commits"] == ["Version 2", "Version 1"]
        assert said["exists"] == [True, False]
        assert "NaN" in said["bad"] or "not finite" in said["bad"], said["bad"]
        assert "is a pickle" in said["pickle"] and "no branches" in said["branch"]
        assert all("404" in each or "403" in each for each in said["bob"]), said["bob"]
        assert "404" in said["bob"][0] and "Repository Not Found" in said["bob"][0]
        assert said["listed"] == [["alice/style"], []]
        assert "Invalid" in said["stranger"]
        assert said["slow"] == files[1:]
        _, page = await library.alice.call("GET", "/api/loras", params={"deleted": True})
        assert [each["name"] for each in page["loras"]] == ["style"]
        _, quota = await library.alice.call("GET", "/api/loras/quota")
        assert quota["reserved_bytes"] == 0, "nothing that was sent for it is left"


@pytest.mark.parametrize("size", ["1e999", "Infinity", "-1", '"x"', "[]", "9" * 5000])
async def test_what_a_commit_says_of_a_size_ends_nothing(library: Running, size: str) -> None:
    await library.alice.call("POST", "/api/repos/create", json={"name": "style"})
    said = f'{{"path": "{WEIGHTS}", "algo": "sha256", "oid": "{"a" * 64}", "size": {size}}}'
    line = f'{{"key": "lfsFile", "value": {said}}}'
    status, body = await library.alice.call("POST", "/api/models/alice/style/commit/main", content=line.encode())
    assert (status, body["code"]) == (400, "INVALID_REQUEST")


@pytest.mark.parametrize("oid", ["", "A" * 64, ["x"], 1, None])
async def test_what_was_sent_before_a_commit_is_named_by_its_digest_and_by_nothing_else(
    library: Running, oid: Any
) -> None:
    """A file of an earlier commit that was sent within it has none."""
    await library.alice.call("POST", "/api/repos/create", json={"name": "style"})
    url = "/api/models/alice/style/commit/main"
    first = {"key": "file", "value": {"path": "adapter_config.json", "encoding": "base64", "content": "e30="}}
    assert (await library.alice.call("POST", url, content=json.dumps(first).encode()))[0] == 200
    second = {"key": "lfsFile", "value": {"path": WEIGHTS, "oid": oid, "size": 2}}
    status, body = await library.alice.call("POST", url, content=json.dumps(second).encode())
    assert (status, body["code"]) == (400, "INVALID_REQUEST") and "its line 1 cannot be read" in body["detail"]


def test_every_owner_has_a_name_that_the_client_takes_and_that_is_nobody_elses() -> None:
    subjects = ("alice", "system:serviceaccount:models:trainer", "alice@example.com", "a--b", "a..b", "x.git", "ä", "-")
    names = [hub_name(each) for each in subjects]
    assert names[0] == "alice" and len(set(names)) == len(names)
    from huggingface_hub.utils import validate_repo_id

    for name in names:
        validate_repo_id(f"{name}/style")
