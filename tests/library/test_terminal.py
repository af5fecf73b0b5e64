"""`lora` for people at a terminal, against a library on a port."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from e2e.world.adapters import write_adapter
from lora_operator.terminal.main import main
from tests.library.conftest import Running
from tests.library.test_page import serving

ALICE = {"LORA_TOKEN": "token-of-alice"}


@pytest.fixture
async def library(tmp_path: Path) -> AsyncIterator[Running]:
    async with serving(tmp_path, quota_adapters=3) as running:
        yield running


class Terminal:
    """Somebody who types commands."""

    def __init__(self, library: Running, monkeypatch: pytest.MonkeyPatch, out: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._out = monkeypatch, out
        self.home = library.folder / "config"
        for name in ("LORA_TOKEN", "http_proxy", "HTTP_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("XDG_CONFIG_HOME", str(self.home))
        monkeypatch.setenv("LORA_SERVER", str(library.client.base_url))

    def is_user(self, name: str) -> None:
        self._monkeypatch.setenv("LORA_TOKEN", f"token-of-{name}")

    async def run(self, *words: str) -> tuple[int, str, str]:
        """(exit status, output, errors)."""
        self._out.readouterr()
        status = await asyncio.to_thread(main, words)
        said = self._out.readouterr()
        return status, said.out, said.err

    async def json(self, *words: str) -> Any:
        status, out, err = await self.run(*words, "-o", "json")
        assert status == 0, err
        return json.loads(out)


@pytest.fixture
def terminal(library: Running, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(library, monkeypatch, capsys)


async def test_a_persons_way_from_login_to_purge(library: Running, terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("token-of-alice\n")
    status, out, _ = await terminal.run("login", "--token-file", str(tmp_path / "token"))
    assert status == 0 and "you are alice" in out
    kept = terminal.home / "lora" / "login.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600 and stat.S_IMODE(kept.parent.stat().st_mode) == 0o700

    first, second = (
        write_adapter(tmp_path / f"seed-{seed}" / "style", base_model="tiny", seed=seed) for seed in (0, 1)
    )
    status, out, err = await terminal.run("push", str(first), "--tag", "poetry", "--metadata", '{"run": 42}')
    assert status == 0 and "style, version 1, for tiny; call it as u-" in out and not err
    assert (await terminal.json("push", str(second)))["version"] == 2
    assert [each["name"] for each in await terminal.json("list", "--tag", "poetry")] == ["style"]
    status, out, _ = await terminal.run("list", "-o", "wide")
    assert out.split("\n")[1].split()[:3] == ["style", "alice", "2"] and "none known" in out

    assert "version 1 is served, and stays" in (await terminal.run("rollback", "style", "--pin"))[1]
    assert (await terminal.run("rollback", "style"))[0] == 1, "there is none before"
    assert [each["version"] for each in await terminal.json("versions", "style")] == [2, 1]
    assert (await terminal.json("rollback", "style", "--newest"))["version"] == 2
    shared = await terminal.json("share", "style", "--user", "bob", "--group", "poets")
    assert await terminal.json("share", "style") == shared
    shown = await terminal.json("show", "style")
    assert (shown["rank"], shown["metadata"], shown["shared_with"]) == (8, {"run": 42}, shared)
    assert "poets" in (await terminal.run("show", "style"))[1]

    terminal.is_user("bob")
    assert (await terminal.json("show", "alice/style"))["owner"] == "alice"
    assert (await terminal.run("rm", "style"))[0] == 5, "it is not his"
    terminal.is_user("alice")
    assert await terminal.json("share", "style", "--private") == {"users": [], "groups": [], "everybody": False}

    assert "lora restore style" in (await terminal.run("rm", "style"))[1]
    assert await terminal.json("list") == []
    assert (await terminal.json("restore", "style"))["name"] == "style"
    assert (await terminal.run("rm", "style", "--purge"))[0] == 2, "nobody can be asked"
    await terminal.json("rm", "style", "--purge", "--yes")
    assert (await terminal.json("quota"))["adapters"] == 0
    assert "forgotten" in (await terminal.run("logout"))[1] and not kept.exists()


async def test_what_goes_wrong_is_said_with_what_to_do_and_has_a_status(
    library: Running, terminal: Terminal, tmp_path: Path
) -> None:
    terminal.is_user("alice")
    style = write_adapter(tmp_path / "style", base_model="tiny")
    (pickled := tmp_path / "pickled").mkdir()
    (pickled / "adapter_config.json").write_text("{}")
    (pickled / "adapter_model.bin").write_bytes(b"x")
    await terminal.json("push", str(style))
    for words, status, said in (
        (("push", str(tmp_path / "none")), 1, "neither a folder nor an archive"),
        (("push", str(pickled)), 1, "safe_serialization=True"),
        (("push", str(style.parent)), 1, "push one of them"),
        (("push", str(style), "--name", "../x"), 4, "--name (INVALID_NAME)"),
        (("push", str(style), "--metadata", "{"), 4, "JSON object"),
        (("show", "stile"), 5, "did you mean style?"),
        (("restore", "style"), 5, "--deleted"),
        (("rollback", "style", "9"), 4, "no version 9"),
        (("rollback", "style", "1", "--newest"), 2, "--newest"),
        (("list", "--server", "ftp://x"), 2, "no address of a library"),
        (("list", "--server", "http://127.0.0.1:1"), 3, "cannot be asked"),
        (("list", "--token-file", str(tmp_path / "none")), 1, "cannot be read"),
    ):
        found = await terminal.run(*words)
        assert (found[0], said in found[2]) == (status, True), (words, found)
        assert "token-of-alice" not in found[2]
    for number in range(2):
        await terminal.json("push", str(style), "--name", f"more-{number}")
    status, _, err = await terminal.run("push", str(style), "--name", "too-much")
    assert status == 4 and "lora quota" in err
    assert "warning: 100% of the quota" in (await terminal.run("quota"))[2]
    terminal.is_user("nobody")
    status, _, err = await terminal.run("list")
    assert status == 4 and "lora login" in err


async def test_a_kept_token_goes_to_no_other_library(library: Running, terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("token-of-alice")
    await terminal.run("login", "--token-file", str(tmp_path / "token"))
    other = str(library.client.base_url).replace("127.0.0.1", "localhost")
    status, _, err = await terminal.run("list", "--server", other)
    assert status == 4 and "UNAUTHENTICATED" in err
