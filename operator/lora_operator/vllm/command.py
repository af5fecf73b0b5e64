"""Reads vLLM's command line out of a container of a pod: which words the engine gets, and the options in them. Pure.

Follows what the kubelet does (`$(VAR)`), what a shell does in the simple cases (`sh -c "exec vllm serve …"`), and what
vLLM's argument parser does (`--max-loras 4`, `--max-loras=4`, `--max_loras 4`, last one wins). What cannot be seen from
the pod (a Secret, a ConfigMap, the image) stays unknown; it is never guessed.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

# private-use characters around the name of a variable whose value is not to be seen
_OPEN, _CLOSE = "\ue000", "\ue001"
_HIDDEN = re.compile(f"{_OPEN}([^{_CLOSE}]*){_CLOSE}")
_KUBELET = re.compile(r"\$\$|\$\(([A-Za-z_.-][A-Za-z0-9_.-]*)\)")
_SHELL = re.compile(r"\$\{([A-Za-z_]\w*)(?::?-([^}]*))?\}|\$([A-Za-z_]\w*)")
_SHELL_REST = re.compile(r"\"\$[@*]\"|\$[@*]|\"\$\{[@*]\}\"|\$\{[@*]\}")
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_SHELLS = frozenset({"sh", "bash", "ash", "dash", "zsh"})
_SHELL_C = re.compile(r"-[a-z]*c")
_REDIRECTION = re.compile(r"(?<=\s)(?:\d|&)?>{1,2}\s*(?:&\d|[^\s;&|]+)")
_SUBSTITUTION = re.compile(r"\$\(([^()]*)\)|`([^`]*)`")
_SEPARATORS = ";&|()\n"
_WORDS_MAX = 1000
_TEXT_MAX = 16 * 2**10  # bound on what variables may grow a text to

# Options that take no value, and those that take one: what follows beyond that is the model (`vllm serve … MODEL`).
_FLAGS = re.compile(r"no-.*|enable-.*|disable-.*|enforce-eager|trust-remote-code|async-scheduling")
_OPTION = re.compile(r"--?[A-Za-z]")
_SINGLE = frozenset({"host", "port", "max-loras", "max-cpu-loras", "max-lora-rank", "max-model-len", "max-num-seqs"})
_MENTION = re.compile("vllm", re.IGNORECASE)


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

    `options`: dashed name without the dashes -> its words, in the order in which they were given last.
    """

    options: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    model: str | None = None
    visible: bool = False
    environment: Environment = Environment()

    def value(self, option: str) -> str | None:
        """The first word of an option; None if it is absent or has none."""
        return next(iter(self.options.get(option, ())), None)

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
        match = _HIDDEN.fullmatch(value)
        return self.environment.secrets.get(match[1]) if match else None


def is_hidden(value: str) -> bool:
    """Whether a value, or a part of it, cannot be seen from the pod."""
    return _OPEN in value


def shown(value: str) -> str:
    """A value for messages: hidden parts as the variables that they come from."""
    return _HIDDEN.sub(r"$(\1)", value)


def choose_container(containers: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The container called `vllm`, or else one that runs it or has it in its image, or mentions it, or the first."""

    def rank(container: Mapping[str, Any]) -> int:
        if container.get("name") == "vllm":
            return 0
        words = [*_words(container.get("command")), *_words(container.get("args"))]
        image = str(container.get("image") or "").rsplit("/", 1)[-1]
        if any(_start(statement) is not None for statement in _statements(words)[0]) or _MENTION.search(image):
            return 1
        return 2 if any(_MENTION.search(word) for word in [*words, str(container.get("image"))]) else 3

    return min(containers, key=rank, default=None)


def read_command(container: Mapping[str, Any]) -> EngineCommand:
    """Read one container of a pod. Never raises, whatever is in there."""
    environment = read_environment(container.get("env"))
    command = [_expand(word, environment) for word in _words(container.get("command"))]
    args = [_expand(word, environment) for word in _words(container.get("args"))]
    statements, assigned, in_shell = _statements([*command, *args], environment)
    if assigned:
        environment = Environment(MappingProxyType({**environment.values, **assigned}), environment.secrets)
    for statement in statements:
        start = _start(statement)
        if start is not None:
            return _parse(statement[start:], environment, visible=True)
    words = [word for statement in statements for word in statement]
    if not command and not in_shell:  # the image's entry point is vLLM's own
        visible = bool(words) and _MENTION.search(str(container.get("image") or "")) is not None
        return _parse(words[words[:1] == ["serve"] :], environment, visible=visible)
    first = next((index for index, word in enumerate(words) if word.startswith("--")), len(words))
    return _parse(words[first:], environment, visible=False)


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
            values[name] = f"{_OPEN}{name}{_CLOSE}"
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
    # the marks of hidden values are ours alone
    return [str(word).replace(_OPEN, "").replace(_CLOSE, "") for word in value[:_WORDS_MAX] if word is not None]


def _expand(text: str, environment: Environment) -> str:
    def replace(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        # not among `env`: it may still come from envFrom, or in a script be a command whose output is taken
        return environment.values.get(match[1], f"{_OPEN}{match[1]}{_CLOSE}")

    return _KUBELET.sub(replace, text)[:_TEXT_MAX]


def _start(words: Sequence[str]) -> int | None:
    """Where vLLM's own arguments begin in a simple command; None if it does not run vLLM."""
    for index, word in enumerate(words):
        name = word.rsplit("/", 1)[-1]
        after = words[index + 1] if index + 1 < len(words) else None
        if name == "vllm" and after == "serve":
            return index + 2
        if word == "-m" and after is not None and _MENTION.search(after):
            rest = index + 2
            return rest + 1 if list(words[rest : rest + 1]) == ["serve"] else rest
        if name == "api_server.py":
            return index + 1
    return None


def _statements(
    words: list[str], environment: Environment | None = None
) -> tuple[list[list[str]], dict[str, str], bool]:
    """The simple commands that `words` run: one, or those of a shell script in them; and the variables that it sets."""
    for index, word in enumerate(words[:-1]):
        if word.rsplit("/", 1)[-1] not in _SHELLS:
            continue
        at = index + 1
        while at < len(words) - 1 and words[at].startswith("-") and not _SHELL_C.fullmatch(words[at]):
            at += 1
        if at < len(words) - 1 and _SHELL_C.fullmatch(words[at]):
            return (*_script(words[at + 1], words[at + 3 :], environment or Environment()), True)
    return [words], {}, False


def _script(script: str, parameters: list[str], environment: Environment) -> tuple[list[list[str]], dict[str, str]]:
    text = script[:_TEXT_MAX].replace("\\\n", " ")
    text = "\n".join(line for line in text.split("\n") if not line.lstrip().startswith("#"))
    text = _SUBSTITUTION.sub(lambda match: f"{_OPEN}{match[1] or match[2]}{_CLOSE}".replace(" ", "_"), text)
    text = _REDIRECTION.sub(" ", text)
    text = _SHELL_REST.sub(lambda _: shlex.join(parameters), text)
    assigned: dict[str, str] = {}
    for statement in _split(text):
        for word in statement:
            match = _ASSIGNMENT.fullmatch(word)
            if match is not None:
                assigned[match[1]] = _shell_expand(match[2], {**environment.values, **assigned})
            elif word not in ("export", "env", "exec"):
                break
    return list(_split(_shell_expand(text, {**environment.values, **assigned}))), assigned


def _shell_expand(text: str, values: Mapping[str, str]) -> str:
    def replace(match: re.Match[str]) -> str:
        name = match[1] or match[3]
        value = values.get(name)
        if value is None:
            # an unset variable of the pod may still be set by the image
            return match[2] if match[2] is not None else f"{_OPEN}{name}{_CLOSE}"
        return value

    return _SHELL.sub(replace, text)[:_TEXT_MAX]


def _split(text: str) -> Iterator[list[str]]:
    lexer = shlex.shlex(text, posix=True, punctuation_chars=_SEPARATORS)
    lexer.whitespace = " \t\r"
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        words = list(lexer)[:_WORDS_MAX]
    except ValueError:  # a quotation that does not end, as in a comment or a here-document
        words = text.split()[:_WORDS_MAX]
    statement: list[str] = []
    for word in words:
        if word and all(character in _SEPARATORS for character in word):
            yield statement
            statement = []
        else:
            statement.append(word)
    yield statement


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
    # a variable that expands to more words, or a configuration file, may hold any option
    open_ended = "config" in options or any(_HIDDEN.fullmatch(word) for word in loose)
    return EngineCommand(
        MappingProxyType(options),
        model[0] if model else plain[0] if plain and not is_hidden(plain[0]) else None,
        visible and not open_ended,
        environment,
    )
