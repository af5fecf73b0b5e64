"""Reads vLLM's command line out of a container of a pod: which words the engine gets, and the options in them. Pure.

Follows what the kubelet does (`$(VAR)`), what a shell does (`lora_operator.vllm.shell`), and what vLLM's argument
parser does (`--max-loras 4`, `--max-loras=4`, `--max_loras 4`, last one wins). What cannot be seen from the pod (a
Secret, a ConfigMap, the image) stays unknown; it is never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from lora_operator.vllm.hidden import hidden, hidden_name, is_hidden, may_be_many, split_apart, unmarked
from lora_operator.vllm.shell import TEXT_MAX, Command, Script, read_script, script_of

_KUBELET = re.compile(r"\$\$|\$\(([A-Za-z_.-][A-Za-z0-9_.-]*)\)")
_WORDS_MAX = 1000

# Options that take no value, and those that take one: what follows beyond that is the model (`vllm serve … MODEL`).
_FLAGS = re.compile(r"no-.*|enable-.*|disable-.*|enforce-eager|trust-remote-code|async-scheduling|headless")
_OPTION = re.compile(r"--?[A-Za-z]")
_SINGLE = frozenset({"host", "port", "max-loras", "max-cpu-loras", "max-lora-rank", "max-model-len", "max-num-seqs"})
_MENTION = re.compile("vllm", re.IGNORECASE)
_PROGRAMS = frozenset({"vllm", "vllm-rs"})
# Modules that serve with vLLM's own arguments, and vLLM's tools, which do not serve. Others are somebody's wrappers.
_SERVES = re.compile(r"vllm(\.entrypoints(\.\w+)*|\.scripts)?")
_TOOLS = re.compile(r"vllm\..*")
# The image that the vLLM project builds: its entry point has no options of its own. Others may have any.
_PLAIN_IMAGE = re.compile(r"(?:.*/)?vllm-openai(?:[:@].*)?")
# Commands that may name vLLM among their words and do not run it.
_SPEAKERS = frozenset(
    {
        *("echo", "printf", "test", "[", "cat", "grep", "egrep", "sed", "awk", "find", "ls", "which", "type", "hash"),
        *("pip", "pip3", "apt", "apt-get", "yum", "git", "curl", "wget", "mkdir", "rm", "cp", "mv", "ln", "touch"),
        *("chmod", "chown", "cd", "set", "sleep", "wait", "kill", "pkill", "killall", "pgrep", "ps", "trap", "tee"),
        *("true", "false", "exit", "return", ":"),
    }
)


@dataclass(frozen=True, slots=True)
class SecretKeyRef:
    """One key of a Secret in the pod's namespace."""

    name: str
    key: str


@dataclass(frozen=True, slots=True)
class Environment:
    """A container's variables: those with a value in the pod, and those that come from a Secret."""

    values: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)  # may hold keys
    secrets: Mapping[str, SecretKeyRef] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class EngineCommand:
    """What is known of an engine's command line. `visible`: it is there to be read, so that an absent option is absent.
    `open_ended`: options may follow that cannot be seen, and the last one wins.

    `options`: dashed name without the dashes -> its words, in the order in which they were given last.
    """

    options: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    model: str | None = None
    visible: bool = False
    environment: Environment = Environment()
    open_ended: bool = False
    module: str | None = None  # the program or Python module that is run

    @property
    def found(self) -> bool:
        """Whether it was seen to run vLLM, or something that takes vLLM's options."""
        return self.module is not None

    def value(self, option: str) -> str | None:
        """The first word of an option; None if it is absent or has none."""
        return next(iter(self.options.get(option, ())), None)

    def first(self, *options: str) -> str | None:
        """The value of an option that has several names."""
        return next((value for option in options if (value := self.value(option)) is not None), None)

    def switch(self, option: str) -> bool | None:
        """A `--x` and `--no-x` pair: what was said last; None where neither was said."""
        said: bool | None = None
        for name, words in self.options.items():
            if name == option:
                said = not words or words[0].lower() not in ("false", "0", "no")
            elif name == f"no-{option}":
                said = False
        return said

    def secret(self, value: str) -> SecretKeyRef | None:
        """The Secret that `value` comes from as a whole."""
        name = hidden_name(value)
        return None if name is None else self.environment.secrets.get(name)


def choose_container(containers: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The container called `vllm`, or else one that runs it or has it in its image, or mentions it, or the first."""

    def rank(container: Mapping[str, Any]) -> int:
        if container.get("name") == "vllm":
            return 0
        words = [*_words(container.get("command")), *_words(container.get("args"))]
        image = str(container.get("image") or "").rsplit("/", 1)[-1]
        if any(_start(one.words) is not None for one in _commands(words, Environment())[0]) or _MENTION.search(image):
            return 1
        return 2 if any(_MENTION.search(word) for word in [*words, str(container.get("image"))]) else 3

    return min(containers, key=rank, default=None)


def read_command(container: Mapping[str, Any]) -> EngineCommand:
    """Read one container of a pod. Never raises, whatever is in there."""
    environment = read_environment(container.get("env"))
    command = _words(container.get("command"))
    more = bool(container.get("envFrom"))
    commands, understood = _commands([*command, *_words(container.get("args"))], environment, more=more)
    found = [read for one in commands if (read := _read(one, environment, understood)) is not None]
    if found:
        return found[0] if len(found) == 1 else _agreed(found)
    words = [word for one in commands for word in one.words] if understood is None else []
    if not command and understood is None:  # the image's entry point is, or leads to, vLLM's own
        visible = bool(words) and _PLAIN_IMAGE.fullmatch(str(container.get("image") or "")) is not None
        return _parse(words[words[:1] == ["serve"] :], environment, visible=visible)
    if any(word.rsplit("/", 1)[-1] in _PROGRAMS for word in words):
        words = []  # a tool of vLLM's, which serves nothing
    first = next((index for index, word in enumerate(words) if word.startswith("--")), len(words))
    return _parse(words[first:], environment, visible=False)


def _read(command: Command, environment: Environment, understood: bool | None) -> EngineCommand | None:
    start = _start(command.words)
    if start is None:
        return None
    at, known, module = start
    sets = dict(command.values)
    if command.words[0].rsplit("/", 1)[-1] == "env":
        sets |= dict(word.split("=", 1) for word in command.words[1:at] if "=" in word)
    variables = Environment(MappingProxyType({**environment.values, **sets}), environment.secrets)
    return replace(_parse(command.words[at:], variables, visible=known and understood is not False), module=module)


def _agreed(found: Sequence[EngineCommand]) -> EngineCommand:
    """One of these is run, or several in turn: only what they have in common is known, and the rest is not visible."""
    first, *others = found
    same = {name: words for name, words in first.options.items() if all(o.options.get(name) == words for o in others)}
    values = first.environment.values
    agreed = {name: value if all(one.environment.values.get(name) == value for one in others) else hidden(name)
              for name, value in values.items()}  # fmt: skip
    return EngineCommand(
        MappingProxyType(same),
        first.model if all(one.model == first.model for one in others) else None,
        visible=False,
        open_ended=True,
        environment=Environment(MappingProxyType(agreed), first.environment.secrets),
        module=first.module,
    )


def read_environment(env: object) -> Environment:
    """A container's `env`, with references among its entries resolved as the kubelet does."""
    environment = Environment({}, {})
    values: dict[str, str] = {}
    secrets: dict[str, SecretKeyRef] = {}
    for entry in env if isinstance(env, (list, tuple)) else ():
        name = entry.get("name") if isinstance(entry, Mapping) else None
        if not isinstance(name, str):
            continue
        environment = Environment(values, secrets)
        source = entry.get("valueFrom")
        if isinstance(source, Mapping):
            values[name] = hidden(name)
            reference = source.get("secretKeyRef")
            if isinstance(reference, Mapping) and reference.get("name") and reference.get("key"):
                secrets[name] = SecretKeyRef(str(reference["name"]), str(reference["key"]))
        else:
            value = entry.get("value")
            values[name] = _expand(value, environment) if isinstance(value, str) else ""
    return Environment(MappingProxyType(values), MappingProxyType(secrets))


def _words(value: object) -> list[str]:
    if not isinstance(value, (list, tuple)):
        return []
    return [unmarked(str(word)) for word in value[:_WORDS_MAX] if word is not None]


def _expand(text: str, environment: Environment, *, script: bool = False) -> str:
    def replace(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        value = environment.values.get(match[1])
        if value is None:
            # not among `env`: it may still come from envFrom, and else a script takes it for a command's output
            return match[0] if script else hidden(match[1])
        return value

    expanded = _KUBELET.sub(replace, text)[: TEXT_MAX + 1]
    return split_apart(expanded) if script else expanded


def _commands(
    words: list[str], environment: Environment, *, more: bool = False
) -> tuple[tuple[Command, ...], bool | None]:
    """The commands that a container runs: one, or those of a shell script in its words. Beside them whether all of the
    script was understood, None where there is none."""
    place = script_of(words)
    plain = [_expand(word, environment) for word in words]
    if place is None:
        return (Command(tuple(plain), environment.values),), None
    script, parameters = place
    text = _expand(words[script], environment, script=True)
    read: Script = read_script(text, plain[parameters:], environment.values, more=more)
    return read.commands, read.understood


def _start(words: Sequence[str]) -> tuple[int, bool, str] | None:
    """Where vLLM's own arguments begin in a simple command, whether they are vLLM's own for certain, and what is run;
    None if it does not run vLLM."""
    if words and words[0].rsplit("/", 1)[-1] in _SPEAKERS:
        return None
    for index, word in enumerate(words):
        name = word.rsplit("/", 1)[-1]
        after = words[index + 1] if index + 1 < len(words) else None
        if name in _PROGRAMS and after is not None:
            if after == "serve":
                return index + 2, name == "vllm", name
            if index == 0 or after in ("chat", "complete", "bench", "collect-env", "run-batch"):
                return None
        if word == "-m" and after is not None and _MENTION.search(after):
            rest = index + 2
            serves = _SERVES.fullmatch(after) is not None
            if not serves and _TOOLS.fullmatch(after):
                return None
            return (rest + 1 if list(words[rest : rest + 1]) == ["serve"] else rest), serves, after
        if name == "api_server.py":
            return index + 1, True, name
    return None


def _parse(words: Sequence[str], environment: Environment, *, visible: bool) -> EngineCommand:
    options: dict[str, tuple[str, ...]] = {}
    loose: list[str] = []
    name: str | None = None
    taken: list[str] = []

    def close() -> None:
        if name is None:
            loose.extend(taken)
            return
        keep = 0 if _FLAGS.fullmatch(name) else 1 if name in _SINGLE else len(taken)
        options.pop(name, None)  # so that the order is that of the last mention
        options[name] = tuple(taken[:keep])
        loose.extend(taken[keep:])

    for word in words:
        if not _OPTION.match(word):
            taken.append(word)
            continue
        close()
        taken = []
        name, equals, value = word.lstrip("-").partition("=")
        name = name.replace("_", "-")
        if equals:
            options.pop(name, None)
            options[name] = (value,)
            name = None
    close()
    model = options.get("model", ())
    plain = [word for word in loose if not word.startswith("-")]
    open_ended = any(map(may_be_many, words)) or any(hidden_name(word) for word in loose)
    sure = plain[:1] == list(words[:1]) or not any(map(may_be_many, words))
    named = model[0] if model else plain[0] if plain and sure else None
    return EngineCommand(
        MappingProxyType(options),
        None if named is None or is_hidden(named) else named,
        visible and not open_ended and "config" not in options,  # a file may hold any option
        environment,
        open_ended,
    )
