"""`kubectl lora completion`, and the answers that shells and kubectl ask for while somebody types."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import logging
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from argcomplete.completers import SuppressCompleter
from argcomplete.finders import CompletionFinder
from argcomplete.shell_integration import shellcode

from lora_operator.plugin.arguments import parser

COMMAND = "kubectl-lora"
PATIENCE_SECONDS = 2.0  # somebody waits with a finger on the key
_PLAIN = re.compile(r"[\w.:@/+-]+", re.ASCII)  # shells expand what they are offered: no name needs more than that
NO_FILES, FILES = ":4", ":0"  # what kubectl takes at the end: the shell may offer files, or not


async def run(arguments: argparse.Namespace) -> int:
    sys.stdout.write(shellcode([COMMAND], shell=arguments.shell))
    return 0


def main(words: Sequence[str] | None = None) -> int:
    """`kubectl_complete-lora WORD… PREFIX`: what may come next, a line each, as kubectl wants it of plugins."""
    given = list(sys.argv[1:] if words is None else words) or [""]
    found = candidates(given[:-1], given[-1])
    sys.stdout.write("".join(f"{one}\n" for one in found) + (NO_FILES if found else FILES) + "\n")
    return 0


def candidates(words: Sequence[str], prefix: str) -> list[str]:
    """What may follow these words and begins with `prefix`."""
    finder = CompletionFinder(_with_names(parser()), default_completer=SuppressCompleter())
    finder.always_complete_options = bool(prefix.startswith("-"))
    # argcomplete has no public way in beside environment variables of a shell that waits on descriptor 8
    find: Callable[..., list[str]] = finder._get_completions
    found = find([COMMAND, *words], prefix, "", None)
    return sorted({one.strip() for one in found} - {""})


def complete_in_shell(top: argparse.ArgumentParser) -> None:
    """Answer the shell that asks, and end the process."""
    CompletionFinder()(_with_names(top), default_completer=SuppressCompleter())


def _with_names(top: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Have names of the cluster offered where one is to be given."""
    for action in top._actions:
        if not isinstance(action, argparse._SubParsersAction):
            continue
        for name, one in action.choices.items():
            for argument in one._actions:
                completer = _COMPLETERS.get(argument.dest)
                if completer is not None and name != "migrate":
                    setattr(argument, "completer", completer)  # noqa: B010 - argcomplete looks there
    return top


def _asked(read: Callable[[Any], Any]) -> Callable[..., list[str]]:
    """A completer that asks the cluster; whatever is wrong with that, nothing is offered."""

    def complete(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
        async def ask() -> Iterable[str]:
            from lora_operator.plugin.connect import connected

            async with asyncio.timeout(PATIENCE_SECONDS), connected(parsed_args) as cluster:
                return set(await read(cluster))

        logging.disable()  # nobody types on over a warning
        try:
            with contextlib.suppress(Exception), contextlib.redirect_stderr(io.StringIO()):
                return sorted(one for one in asyncio.run(ask()) if one.startswith(prefix) and _PLAIN.fullmatch(one))
        finally:
            logging.disable(logging.NOTSET)
        return []

    return complete


async def _adapters(cluster: Any) -> Iterable[str]:
    from lora_operator.plugin.fleet import lines

    return [name for line in lines(await cluster.adapters()) for name in (line.adapter, line.resource) if name]


async def _pods(cluster: Any) -> Iterable[str]:
    return [body["metadata"]["name"] for body in await cluster.all_pods()]


async def _namespaces(cluster: Any) -> Iterable[str]:
    body = await cluster.call("GET", "/api/v1/namespaces", query={"limit": "500"})
    return [item["metadata"]["name"] for item in body.get("items") or ()]


def _contexts(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    with contextlib.suppress(Exception):
        from kubernetes.config import list_kube_config_contexts

        contexts, _active = list_kube_config_contexts(parsed_args.kubeconfig)
        return sorted(one["name"] for one in contexts if one["name"].startswith(prefix))
    return []


_COMPLETERS: dict[str, Callable[..., list[str]]] = {
    "name": _asked(_adapters),
    "pod": _asked(_pods),
    "like": _asked(_pods),
    "remove_pod": _asked(_pods),
    "namespace": _asked(_namespaces),
    "context": _contexts,
}
