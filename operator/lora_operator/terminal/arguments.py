"""The whole command line of `lora`. Light on purpose: help and completion import nothing but this."""

from __future__ import annotations

import argparse

from lora_operator import __version__
from lora_operator.plugin.arguments import Command, add_command

EXIT_STATUS = """
Exit status: 0 done, 1 failed here, 2 the command line makes no sense, 3 the library cannot be reached or is busy, 4 it
refused, 5 there is no such adapter."""
NAME_HELP = "its name, its id, or OWNER/NAME for one that is shared with you"
OWN_HELP = "its name or its id, of your own"


def _push(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "path", help="a folder with adapter_config.json and adapter_model.safetensors, or a .zip, .tar.gz with both"
    )
    parser.add_argument("--name", help="default: that of the folder or archive")
    parser.add_argument("--tag", action="append", metavar="TAG", help="(repeat; default: those that it has)")
    parser.add_argument("--base-model", metavar="MODEL", help="default: what adapter_config.json says")
    parser.add_argument("--description", metavar="TEXT", help="what it is for")
    parser.add_argument("--metadata", metavar="JSON", help='a JSON object that is kept as it is, such as {"run": 42}')
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar")


def _list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("search", nargs="?", default="", help="text in names and descriptions (default: all)")
    parser.add_argument("--tag", action="append", default=[], metavar="TAG", help="with this tag (repeat: with all)")
    parser.add_argument("--base-model", default="", metavar="MODEL", help="for this base model")
    parser.add_argument("--state", choices=("OnDemand", "Loaded", "Failed", "Unknown", "quarantined", "rejected"))
    parser.add_argument("--sort", choices=("created_at", "name", "size", "usage"), default="name", help="default: name")
    parser.add_argument("--descending", action="store_true", help="the largest, newest, last used first")
    parser.add_argument("--mine", action="store_true", help="without what others share with you")
    parser.add_argument("--deleted", action="store_true", help="what can be restored, instead")
    parser.add_argument("--limit", type=_limit, default=500, metavar="N", help="at most so many (default: 500)")


def _named(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="ADAPTER", help=NAME_HELP)


def _rm(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="ADAPTER", help=OWN_HELP)
    parser.add_argument("--purge", action="store_true", help="for good, also one that is deleted already; frees quota")
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")


def _restore(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="ADAPTER", help="the name or id of one that you deleted")


def _rollback(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="ADAPTER", help=OWN_HELP)
    parser.add_argument("version", nargs="?", type=int, help="which version to serve (default: the one before)")
    parser.add_argument("--pin", action="store_true", help="uploads that follow do not change which version is served")
    parser.add_argument("--newest", action="store_true", help="serve the newest again, and uploads that follow")


def _share(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="ADAPTER", help=OWN_HELP)
    parser.add_argument("--user", action="append", default=[], metavar="USER", help="and with this user (repeat)")
    parser.add_argument("--group", action="append", default=[], metavar="GROUP", help="and with this group (repeat)")
    parser.add_argument("--everybody", action="store_true", help="and with everybody who may use the library")
    parser.add_argument("--private", action="store_true", help="take back first what it is shared with now")


def _login(parser: argparse.ArgumentParser) -> None:
    pass


COMMANDS = (
    Command(
        "login", "login", "keep which library to use, and your token",
        "Asks for a token (or reads it: --token-file), tries it, and keeps it with the address of the library in "
        "~/.config/lora/login.json, which only you can read.",
        """
  lora login --server https://library.example.com
  kubectl create token trainer --duration 8h | lora login --server https://library.example.com --token-file -
"""
        + EXIT_STATUS,
        _login, scoped=False, formats=False,
    ),
    Command(
        "logout", "logout", "forget them", "Removes what `lora login` has kept.",
        """
  lora logout
""" + EXIT_STATUS,
        lambda parser: None, scoped=False, formats=False,
    ),
    Command(
        "push", "push", "upload an adapter, or a new version of one",
        "Uploads an adapter as PEFT saves it. Under a name that you have already it becomes the next version, and is "
        "served as soon as the operator has rolled it out.",
        """
  lora push ./style --tag poetry
  lora push ./checkpoint-800 --name style --base-model meta-llama/Llama-3.1-8B-Instruct
  lora push style.tar.gz -o json | jq -r .model     # what to call it by
"""
        + EXIT_STATUS,
        _push, scoped=False,
    ),
    Command(
        "list", "list", "adapters that you may call",
        "Lists your adapters, and those that are shared with you.",
        """
  lora list
  lora list --tag poetry --sort usage
  lora list --deleted                # what `lora restore` can bring back
"""
        + EXIT_STATUS,
        _list, scoped=False,
    ),
    Command(
        "show", "show", "all of an adapter",
        "Shows what an adapter's files say of it, where it is loaded, its versions, and how to call it.",
        """
  lora show style
  lora show bob/sonnets
""" + EXIT_STATUS,
        _named, scoped=False,
    ),
    Command(
        "versions", "versions", "versions of an adapter that are kept", "Lists them, the newest first.",
        """
  lora versions style
""" + EXIT_STATUS,
        _named, scoped=False,
    ),
    Command(
        "rollback", "rollback", "serve another version",
        "Serves an older version of an adapter, or any that is kept. The next upload is served again, but for --pin.",
        """
  lora rollback style                # the version before the one that is served
  lora rollback style 3 --pin
  lora rollback style --newest
"""
        + EXIT_STATUS,
        _rollback, scoped=False,
    ),
    Command(
        "share", "share", "show an adapter to others",
        "Adds users or groups that see an adapter and its name; without flags, shows whom it is shared with. Who may "
        "send requests to it is decided by the gateway.",
        """
  lora share style --user bob --group poets
  lora share style --private         # with nobody any more
"""
        + EXIT_STATUS,
        _share, scoped=False,
    ),
    Command(
        "rm", "rm", "delete an adapter",
        "Deletes an adapter: nobody can call it any more. It can be restored for some days, and counts until then.",
        """
  lora rm style
  lora rm style --purge --yes        # for good
"""
        + EXIT_STATUS,
        _rm, scoped=False,
    ),
    Command(
        "restore", "restore", "undo a deletion", "Brings back an adapter that you deleted.",
        """
  lora restore style
""" + EXIT_STATUS,
        _restore, scoped=False,
    ),
    Command(
        "quota", "quota", "what you use, and what you may use", "Shows how much of your quota is used.",
        """
  lora quota
""" + EXIT_STATUS,
        lambda parser: None, scoped=False,
    ),
)  # fmt: skip


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="lora",
        description="LoRA adapters of your own: upload them to a user library, and call them a moment later.",
        epilog="examples:\n  lora login --server https://library.example.com\n  lora push ./style --tag poetry\n"
        "  lora list\n\n`lora COMMAND --help` explains each with examples. LORA_SERVER and LORA_TOKEN stand for a\n"
        "login; proxies and authorities come from HTTPS_PROXY and SSL_CERT_FILE.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"lora {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        one = add_command(commands, command, "lora_operator.terminal")
        if command.name == "logout":
            continue
        one.add_argument(
            "--server", metavar="URL", help="address of the library (default: LORA_SERVER, then the login)"
        )
        one.add_argument(
            "--token-file", metavar="FILE",
            help="read the token from a file, - for the standard input (default: LORA_TOKEN, then the login)",
        )  # fmt: skip
    return top


def _limit(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 100_000:
        raise argparse.ArgumentTypeError(f"{value} is not from 1 to 100000")
    return value
