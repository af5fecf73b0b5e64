"""The whole command line of `kubectl lora`. Light on purpose: help and completion import nothing but this."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

from lora_operator import __version__

FORMATS = ("table", "wide", "json", "yaml")
POLICIES = ("balanced", "binpack", "spread")
SHELLS = ("bash", "zsh", "fish")
EXIT_STATUS = "Exit status: 0 done, 1 failed, 2 the command line makes no sense"


@dataclass(frozen=True, slots=True)
class Command:
    """One command: `module` has `async def run(arguments) -> int`. `flags` adds what is its own."""

    name: str
    module: str
    summary: str
    text: str
    examples: str
    flags: Callable[[argparse.ArgumentParser], None]
    scoped: bool = True  # has namespace, context and so on
    formats: bool = True  # has --output


def _get(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="an adapter, or a LoraAdapter for all of its adapters (default: all)")


def _why(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="ADAPTER", help="the adapter's name, as requests ask for it")
    parser.add_argument(
        "--files", action="store_true",
        help="ask the pods' agents where its files are, with the rights of `kubectl lora cache`",
    )  # fmt: skip
    _token(parser)


def _pods(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pod", nargs="?", help="only this pod")
    parser.add_argument("--ask", action="store_true", help="ask engines what they hold (right: get pods/proxy)")
    _reach(parser)


def _reach(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--direct", action="store_true",
        help="ask pods at their own addresses, from inside the cluster's network, and not through the API server",
    )  # fmt: skip


def _token(parser: argparse.ArgumentParser) -> None:
    _reach(parser)
    parser.add_argument(
        "--token-secret", default="lora-agent-token", metavar="NAME",
        help="the Secret in the pods' namespace that has the agents' token (default: lora-agent-token)",
    )  # fmt: skip
    parser.add_argument("--token-file", metavar="FILE", help="read the agents' token from a file and not from a Secret")


def _top(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--once", action="store_true", help="print once and end (default where there is no terminal)")
    parser.add_argument(
        "--seconds", type=_seconds, default=2.0, metavar="N", help="time between two looks (default: 2)"
    )
    _reach(parser)


def _cache(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pod", nargs="?", help="only the agent of this pod")
    _token(parser)


def _pin(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="ADAPTER", help="an adapter, or a LoraAdapter for all of its adapters")


def _evict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="ADAPTER", help="the adapter's name, as requests ask for it")
    parser.add_argument("--pod", metavar="POD", help="only from the disk of this pod (default: from all)")
    _token(parser)


def _refresh(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="a LoraAdapter, or one of its adapters")


def plan_flags(parser: argparse.ArgumentParser) -> None:
    """Those of `plan`, which `lora-operator` has as well."""
    parser.add_argument(
        "-f", "--filename", action="append", default=[], metavar="FILE",
        help="read LoraAdapters, pods, StatefulSets, Deployments and nodes from YAML and not from a cluster "
        "(repeat; - is the standard input)",
    )  # fmt: skip
    parser.add_argument(
        "--add", action="append", default=[], metavar="FILE", help="and what is in this YAML as well (repeat)"
    )
    parser.add_argument("--add-pods", type=_count, default=0, metavar="N", help="with N more pods like --like")
    parser.add_argument("--like", metavar="POD", help="the pod that further ones are like (needed if they differ)")
    parser.add_argument("--remove-pod", action="append", default=[], metavar="POD", help="without this pod (repeat)")
    parser.add_argument(
        "--pods-needed", action="store_true", help="tell how many more pods would give every replica a place"
    )
    parser.add_argument("--policy", choices=POLICIES, default="balanced", help="placement policy (default: balanced)")
    parser.add_argument(
        "--offline", action="store_true", help="ask neither engines what they hold nor sources: status has to do"
    )
    _reach(parser)
    parser.add_argument(
        "--rank", type=_positive, metavar="N", help="rank to assume for adapters whose files cannot be looked at"
    )
    parser.add_argument(
        "--bytes", metavar="SIZE", help="memory to assume for them, for example 200Mi, where their spec says none"
    )


def _migrate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="+", metavar="FILE", help="YAML of any number of documents (- : standard input)")
    parser.add_argument(
        "--base-model", metavar="NAME", help="the base model of adapters for which the file does not say one"
    )


def _completion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS)


PLAN = Command(
    "plan", "plan", "what the operator would do now, or with other pods and adapters, without doing it",
    "Computes what the operator's own planning would: what is loaded and unloaded, step by step, and what has no place "
    "and why. Changes nothing. Engines are asked what they hold (right: get pods/proxy), else status tells; sizes "
    "and ranks of new adapters are asked of the source with your rights. Quotas, measured demand and failed loads are "
    "not counted.",
    """
  kubectl lora plan                                  # what would be done now
  kubectl lora plan --add new-adapters.yaml          # if these were applied
  kubectl lora plan --add-pods 2 --like vllm-0       # with two more pods
  kubectl lora plan --remove-pod vllm-1              # without one: does everything still fit?
  kubectl lora plan -f adapters.yaml -f pods.yaml --pods-needed    # no cluster at all

Exit status: 0 everything has a place, 1 failed, 2 the command line makes no sense, 3 something has no place.""",
    plan_flags,
)  # fmt: skip

COMMANDS = (
    Command(
        "get", "get", "adapters, their replicas, and where they are",
        "Lists adapters, one line each: how many replicas answer of how many wanted, its state, and the pods.",
        """
  kubectl lora get                    # the adapters of this namespace
  kubectl lora get sql -o wide        # one, with rank, size, version and message
  kubectl lora get -A -o json         # for programs""",
        _get,
    ),
    Command(
        "why", "why", "why an adapter is, or is not, on each pod",
        "Tells for one adapter and each pod why it is there or not: what the operator wrote into status, and for other "
        "pods what its planning says of them. With --files, which pods have its files on their disks, where a load has "
        "nothing to fetch.",
        """
  kubectl lora why sql
  kubectl lora why sql --files
  kubectl lora why sql -n team-a -o yaml""",
        _why,
    ),
    Command(
        "pods", "pods", "pods: slots and memory taken, and the adapters there",
        "Lists vLLM pods that take part, with how much of their slots and of their memory budget adapters take.",
        """
  kubectl lora pods
  kubectl lora pods vllm-0 -o wide    # with the names of its adapters""",
        _pods,
    ),
    Command(
        "top", "top", "how busy pods and adapters are, live",
        "Shows requests running and waiting on each pod and which adapters they are for, read from the engines' own "
        "metrics through the API server (right: get pods/proxy). vLLM counts requests per pod, not per adapter.",
        """
  kubectl lora top
  kubectl lora top --once -o json""",
        _top,
    ),
    Command(
        "cache", "cache", "what is on the disks of agents",
        "Lists the adapter versions on each agent's disk. It asks the agents themselves, through the API server "
        "(rights: get pods/proxy, and get on the Secret with the agents' token). A shared adapter volume has no agent: "
        "its metrics are the operator's.",
        """
  kubectl lora cache
  kubectl lora cache vllm-0 -o wide""",
        _cache,
    ),
    Command(
        "pin", "pin", "keep an adapter's files in all caches, whatever happens",
        "Has files of this adapter stay where they are cached, though nobody uses them and others want the room. Sets "
        "an annotation of the LoraAdapter: it outlives pods and holds for new versions (right: patch loraadapters).",
        """
  kubectl lora pin sql
  kubectl lora unpin sql""",
        _pin, formats=False,
    ),
    Command(
        "unpin", "pin", "take a pin back", "Takes back what `kubectl lora pin` did.",
        """
  kubectl lora unpin sql""",
        _pin, formats=False,
    ),
    Command(
        "evict", "evict", "remove an adapter's files from the disks of agents",
        "Removes all versions of an adapter from the disks of agents. Refused by each agent while an engine has it "
        "loaded or is about to, or while it is pinned. The next load fetches the files again. Rights as for cache, and "
        "delete pods/proxy.",
        """
  kubectl lora evict sql
  kubectl lora evict sql --pod vllm-0""",
        _evict, formats=False,
    ),
    Command(
        "refresh", "refresh", "have the operator look at a source again now",
        "Has the operator look at the source of a LoraAdapter now and not at its next regular time. Sets an annotation "
        "(right: patch loraadapters).",
        """
  kubectl lora refresh sql""",
        _refresh, formats=False,
    ),
    PLAN,
    Command(
        "migrate", "migrate", "LoraAdapters from the resources of other projects",
        "Reads AIBrix ModelAdapter, LoraAdapter of the vLLM production stack and ConfigMaps of the LoRA syncer of the "
        "Gateway API inference extension. Writes LoraAdapters to the standard output and what has no equal to the "
        "standard error. Nothing is applied.",
        """
  kubectl lora migrate aibrix.yaml > ours.yaml
  kubectl get modeladapters -A -o yaml | kubectl lora migrate - | kubectl apply -f -""",
        _migrate, scoped=False, formats=False,
    ),
    Command(
        "completion", "completion", "completion of commands and names in a shell",
        "Prints a script for the shell that completes `kubectl-lora`. For `kubectl lora`, kubectl itself asks "
        "`kubectl_complete-lora`, which is installed beside it.",
        """
  source <(kubectl lora completion bash)
  kubectl lora completion fish | source""",
        _completion, scoped=False, formats=False,
    ),
)  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """All commands, for people and for completion."""
    top = argparse.ArgumentParser(
        prog="kubectl lora",
        description="LoRA adapters on vLLM pods: where they are, why not, and what would be. It uses your kubeconfig "
        "and your rights.",
        epilog="examples:\n  kubectl lora get\n  kubectl lora why sql\n"
        "  kubectl lora plan --add new.yaml --pods-needed\n\n"
        "`kubectl lora COMMAND --help` explains each with examples.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"kubectl-lora {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        add_command(commands, command)
    return top


def add_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    command: Command,
    package: str = "lora_operator.plugin",
) -> argparse.ArgumentParser:
    """One command, here or among those of another program; its module is in `package`."""
    one = commands.add_parser(
        command.name,
        help=command.summary,
        description=command.text,
        epilog=f"examples:{command.examples}" + ("" if "Exit status" in command.examples else f"\n\n{EXIT_STATUS}."),
        formatter_class=_Help,
    )
    command.flags(one)
    if command.scoped:
        one.add_argument("-n", "--namespace", help="namespace (default: that of the context)")
        one.add_argument("-A", "--all-namespaces", action="store_true", help="all namespaces")
        one.add_argument("--context", help="context of the kubeconfig")
        one.add_argument("--kubeconfig", help="kubeconfig file (default: KUBECONFIG, then ~/.kube/config)")
    if command.formats:
        one.add_argument("-o", "--output", choices=FORMATS, default="table", help="how to print (default: table)")
    one.set_defaults(module=f"{package}.{command.module}")
    return one


class _Help(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of examples, and fills the description."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith("examples:"):
            return super()._fill_text(text, width, indent)
        return argparse.HelpFormatter._fill_text(self, text, width, indent)


def _count(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 10_000:
        raise argparse.ArgumentTypeError(f"{value} is not from 0 to 10000")
    return value


def _positive(text: str) -> int:
    value = _count(text)
    if value == 0:
        raise argparse.ArgumentTypeError("0 makes no sense")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0.2 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not from 0.2 to 3600")
    return value
