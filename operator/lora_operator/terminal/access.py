"""Which library, and by which token: flags, then the environment, then what `lora login` has kept."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from lora_operator.plugin.problems import BAD_COMMAND_LINE, PluginError

SERVER, TOKEN = "LORA_SERVER", "LORA_TOKEN"
LOGIN_HINT = f"`lora login --server https://library.example.com`, or set {SERVER} and {TOKEN}"
TOKEN_LENGTH = 16_384
_LOCAL = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Access:
    """`token` may be empty: what stands before the library may say who somebody is."""

    server: str
    token: str

    @property
    def in_the_open(self) -> bool:
        """Whether the token is sent over a network without encryption."""
        url = urlsplit(self.server)
        return bool(self.token) and url.scheme == "http" and url.hostname not in _LOCAL


def kept_in(environment: Mapping[str, str] | None = None) -> Path:
    """The file of `lora login`."""
    given = os.environ if environment is None else environment
    root = given.get("XDG_CONFIG_HOME")
    return (Path(root) if root else Path.home() / ".config") / "lora" / "login.json"


def access(arguments: argparse.Namespace, environment: Mapping[str, str] | None = None) -> Access:
    """Raises PluginError."""
    given = os.environ if environment is None else environment
    kept = _kept(kept_in(given))
    server = checked_server(arguments.server or given.get(SERVER) or kept.server, f"say which library: {LOGIN_HINT}")
    if arguments.token_file:
        return Access(server, read_token(arguments.token_file))
    if given.get(TOKEN):
        return Access(server, _clean(given[TOKEN], TOKEN))
    # a token is for the library that it was kept for, and no other is to see it
    return Access(server, kept.token if server == kept.server else "")


def checked_server(text: str, missing: str) -> str:
    """Without a slash at the end. Raises PluginError."""
    if not text:
        raise PluginError(missing, BAD_COMMAND_LINE)
    url = urlsplit(text)
    if url.scheme not in ("http", "https") or not url.hostname or url.username or url.query or url.fragment:
        raise PluginError(
            f"{text!r} is no address of a library: write it like https://library.example.com", BAD_COMMAND_LINE
        )
    return text.rstrip("/")


def read_token(file: str) -> str:
    """From a file, - for the standard input. Raises PluginError."""
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise PluginError(f"the token cannot be read: {error}") from None
    return _clean(text, "the token file" if file != "-" else "the standard input")


def keep(wanted: Access, file: Path) -> None:
    """For this user alone to read. Raises PluginError."""
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = file.with_suffix(f".{os.getpid()}")
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
            json.dump({"server": wanted.server, "token": wanted.token}, opened)
        partial.replace(file)
    except OSError as error:
        raise PluginError(f"the login cannot be kept in {file}: {error}") from None


def forget(file: Path) -> bool:
    """Whether there was something to forget. Raises PluginError."""
    try:
        file.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise PluginError(f"{file} cannot be removed: {error}") from None
    return True


def _kept(file: Path) -> Access:
    try:
        content = json.loads(file.read_text())
        return Access(str(content["server"]), str(content["token"]))
    except FileNotFoundError:
        return Access("", "")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PluginError(
            f"{file} cannot be used ({type(error).__name__}): remove it, and `lora login` again"
        ) from None


def _clean(text: str, where: str) -> str:
    token = text.strip()
    if not token or len(token) > TOKEN_LENGTH or not token.isascii() or any(each.isspace() for each in token):
        raise PluginError(f"{where} holds no token: one word is expected")
    return token
