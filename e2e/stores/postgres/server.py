"""Starts PostgreSQL as a process, under an account that it accepts, in a folder that only it needs."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from e2e.stores.store_process import StoreProcess

ACCOUNT = "postgres"  # of Debian's package; the server does not run as root


class PostgresUnavailable(Exception):
    """PostgreSQL is not installed here."""


class PostgresServer:
    """`folder` takes the log. To be closed. Raises PostgresUnavailable."""

    def __init__(self, folder: Path) -> None:
        programs = _programs()
        # below /tmp: a folder of a test belongs to root, and other accounts cannot go through it
        self._data = Path(tempfile.mkdtemp(prefix="postgres-"))
        self._as: dict[str, Any] = {}
        try:
            if os.getuid() == 0:
                try:
                    account = pwd.getpwnam(ACCOUNT)
                except KeyError:
                    raise PostgresUnavailable(f"there is no account {ACCOUNT} that it could run as") from None
                os.chown(self._data, account.pw_uid, account.pw_gid)
                self._as = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": [], "cwd": "/tmp"}
            self._prepare(programs)
        except BaseException:
            shutil.rmtree(self._data, ignore_errors=True)
            raise
        prefix = ["setpriv", f"--reuid={ACCOUNT}", f"--regid={ACCOUNT}", "--clear-groups"] if self._as else []
        self._process = StoreProcess(
            "PostgreSQL",
            lambda port: [
                *prefix, programs / "postgres", "-D", str(self._data / "data"), "-p", str(port),
                "-h", "127.0.0.1", "-k", "", "-F",
            ],
            folder / "postgres.log",
            {},
        )  # fmt: skip
        self._psql = programs / "psql"

    def database(self, like: str = "") -> str:
        """The address of a new database, empty or a copy of the one at `like`, which nobody is connected to."""
        name = f"test_{secrets.token_hex(6)}"
        template = f" TEMPLATE {like.rpartition('/')[2]}" if like else ""
        place = ["-h", "127.0.0.1", "-p", str(self._process.port), "-U", "library", "-d", "postgres", "-q"]
        command = [str(self._psql), *place, "-c", f"CREATE DATABASE {name}{template}"]
        for attempt in range(600):  # a port that is open may still refuse for a moment
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode == 0:
                return f"postgresql://library@127.0.0.1:{self._process.port}/{name}"
            if "starting up" not in done.stderr or attempt == 599:
                raise RuntimeError(f"psql: {done.stderr}")
        raise AssertionError

    def close(self) -> None:
        self._process.stop()
        shutil.rmtree(self._data, ignore_errors=True)

    def _prepare(self, programs: Path) -> None:
        made = subprocess.run(
            [programs / "initdb", "-D", self._data / "data", "-U", "library", "--auth=trust", "--no-sync", "-E", "UTF8",
             "--locale=C"],
            capture_output=True, text=True, **self._as,
        )  # fmt: skip
        if made.returncode != 0:
            raise PostgresUnavailable(f"initdb failed: {made.stderr[-500:]}")


def _programs() -> Path:
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / "initdb").exists():
            return folder
    found = shutil.which("initdb")
    if found is None:
        raise PostgresUnavailable("PostgreSQL is not installed (Debian, Ubuntu: apt install postgresql)")
    return Path(found).resolve().parent
