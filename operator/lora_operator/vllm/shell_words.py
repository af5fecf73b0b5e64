"""What the words of a shell script become: quotations, variables, arrays, defaults. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from tree_sitter import Node

from lora_operator.vllm.hidden import hidden, is_hidden, may_be_many, split_apart

_PATTERN = re.compile(r"(?<!\\)[*?\[]")
_BLANKS = re.compile(r"\A(?:\s|\\\n)+")
_ALL_PARAMETERS = re.compile(r"\$@|\$\{@\}|\[@\]")
# Every shell, or Kubernetes for the Services of a namespace, sets these itself.
_SET_ELSEWHERE = re.compile(
    r"HOME|PATH|PWD|OLDPWD|HOSTNAME|USER|LOGNAME|SHELL|SHLVL|E?UID|PPID|RANDOM|SECONDS|LINENO|BASH\w*|IFS|OSTYPE|TERM|"
    r"LANG|OPT(IND|ARG|ERR)|_|\w+_(PORT|SERVICE_HOST|SERVICE_PORT)(_\w+)?"
)


@dataclass(slots=True)
class Scope:
    """What a shell knows at one moment. Variables that are absent may be set by the image."""

    values: dict[str, str]
    arrays: dict[str, list[str]] = field(default_factory=dict)
    functions: dict[str, Node] = field(default_factory=dict)
    parameters: list[str] = field(default_factory=list)

    def copy(self) -> Scope:
        return Scope(dict(self.values), dict(self.arrays), dict(self.functions), list(self.parameters))

    def hide(self, names: Iterable[str]) -> None:
        for name in names:
            self.arrays.pop(name, None)
            self.values[name] = hidden(name)

    def join(self, others: Iterable[Scope]) -> None:
        """Know only what all of these agree on."""
        for other in others:
            for mine, theirs in ((self.values, other.values), (self.arrays, other.arrays)):
                names = mine.keys() | theirs.keys()
                self.hide([name for name in names if mine.get(name) != theirs.get(name)])
            if self.parameters != other.parameters:
                self.parameters = [hidden("@", many=True)]
            self.functions = other.functions | self.functions


class Words:
    """Expands the arguments of commands. `more`: there are variables whose names and values cannot be seen."""

    def __init__(self, more: bool) -> None:
        self._more = more

    def expand(self, node: Node, scope: Scope) -> list[str]:
        """The words that one argument becomes."""
        kind = node.type
        if kind == "concatenation":
            return self._concatenated(node, scope)
        if kind in ("simple_expansion", "expansion"):
            listed = self._listed(node, scope)
            if listed is not None:
                return [part for word in listed for part in _split(word)]
            return _split(self._value(node, scope))
        if kind == "string" and _ALL_PARAMETERS.search(text_of(node)):
            return self._with_all(node, scope)
        if kind == "command_substitution":
            return [hidden("output", many=True)]
        text = self.joined(node, scope)
        if kind == "word" and (_PATTERN.search(text_of(node)) or text_of(node).startswith("~")):
            return [hidden("pattern", many=True)]
        return [text]

    def _with_all(self, node: Node, scope: Scope) -> list[str]:
        """A quotation with `$@` or all elements of an array in it: what stands before belongs to the first of them,
        what stands behind to the last."""
        lists = [child for child in node.named_children if _ALL_PARAMETERS.search(text_of(child))]
        listed = self._listed(lists[0], scope) if len(lists) == 1 else None
        if listed is None:
            return [hidden("@", many=True)]
        source, start = node.text or b"", node.start_byte
        before = self._between(node, 1, lists[0].start_byte - start, scope) + _blanks_before(lists[0])
        after = self._between(node, lists[0].end_byte - start, len(source) - 1, scope)
        if not listed:
            return [before + after] if before + after else []
        words = [*listed[:-1], listed[-1] + after]
        return [before + words[0], *words[1:]]

    def _concatenated(self, node: Node, scope: Scope) -> list[str]:
        raw = text_of(node)
        if "{" in re.sub(r"\$\{|'[^']*'|\"[^\"]*\"", "", raw):
            return [hidden("braces", many=True)]
        words = [""]
        for child in node.children:
            some = self.expand(child, scope)
            if child.type in ("simple_expansion", "expansion") and some not in ([], [self._value(child, scope)]):
                return [hidden("words", many=True)]  # the shell may split it anywhere
            words[-1] += some[0] if some else ""
            words += some[1:]
        return words

    def joined(self, node: Node, scope: Scope) -> str:
        """The text that a node becomes where nothing is split."""
        kind, raw = node.type, text_of(node)
        if kind in ("word", "variable_name", "number", "extglob_pattern", "regex", "special_variable_name"):
            return re.sub(r"\\(.)", r"\1", raw.replace("\\\n", ""), flags=re.DOTALL)
        if kind == "raw_string":
            return raw[1:-1]
        if kind == "ansi_c_string" and "\\" not in raw:
            return raw[2:-1]
        if kind == "string_content":
            return _in_quotes(raw)
        if kind in ("string", "concatenation", "command_name"):
            return self._parts(node, scope, kind == "string")
        if kind in ("simple_expansion", "expansion"):
            listed = self._listed(node, scope)
            value = " ".join(listed) if listed is not None else self._value(node, scope)
            return _blanks_before(node) + value
        if not node.is_named and kind == raw:
            return raw
        return hidden("output" if "substitution" in kind else kind)

    def _parts(self, node: Node, scope: Scope, quoted: bool) -> str:
        """With what stands between the children: the grammar leaves out some blanks of quotations."""
        source = node.text or b""
        return self._between(node, 1 if quoted else 0, len(source) - (1 if quoted else 0), scope)

    def _between(self, node: Node, at: int, end: int, scope: Scope) -> str:
        """What the bytes of a node from `at` to `end` become, where no child stands across these."""
        source, start, found = node.text or b"", node.start_byte, ""
        for child in node.named_children:
            if not at <= child.start_byte - start < end:
                continue
            found += _in_quotes(source[at : child.start_byte - start].decode()) + self.joined(child, scope)
            at = child.end_byte - start
        return found + _in_quotes(source[at:end].decode())

    def _listed(self, node: Node, scope: Scope) -> list[str] | None:
        """The elements where a node stands for all parameters, or all elements of an array."""
        raw = _bare(node)
        if raw in ("$@", "${@}", "$*", "${*}"):
            return list(scope.parameters)
        match = re.fullmatch(r"\$\{(\w+)\[[@*]\]\}", raw)
        if match is None:
            return None
        return list(scope.arrays.get(match[1], [hidden(match[1], many=True)]))

    def _value(self, node: Node, scope: Scope) -> str:
        """The value of `$NAME`, `${NAME}` or one with a default."""
        raw = _bare(node)
        match = re.fullmatch(r"\$(\w+)|\$\{(\w+)(?:(:?[-=+?])(.*))?\}", raw, re.DOTALL)
        if match is None:
            return hidden(raw.strip("${}") or "value")
        name, operator = match[1] or match[2], match[3] or ""
        if name.isdigit():
            return self._parameter(int(name), scope) if not operator else hidden(name)
        value = scope.values.get(name)
        if not operator or name in scope.arrays:
            return hidden(name) if value is None else value
        if value is None and (self._more or _SET_ELSEWHERE.fullmatch(name) or operator[-1] in "+?"):
            return hidden(name)
        if value is not None and is_hidden(value):
            return value if operator[-1] == "?" else hidden(name)
        there = bool(value) if operator.startswith(":") else value is not None
        if operator[-1] == "?":
            return value or hidden(name)
        if operator[-1] == "+":
            return self._default(node, scope) if there else ""
        if there:
            return value or ""
        text = self._default(node, scope)
        if operator[-1] == "=":
            scope.values[name] = text
        return text

    def _default(self, node: Node, scope: Scope) -> str:
        behind = node.named_children[1:]
        return "".join(self.joined(child, scope) for child in behind) if len(behind) <= 1 else hidden("default")

    @staticmethod
    def _parameter(number: int, scope: Scope) -> str:
        if number == 0 or any(map(may_be_many, scope.parameters[:number])):
            return hidden(str(number))
        return scope.parameters[number - 1] if number <= len(scope.parameters) else ""


def _split(value: str) -> list[str]:
    """An unquoted value: blanks end a word, and nothing is no word."""
    if is_hidden(value):
        return [split_apart(value)]
    if _PATTERN.search(value):
        return [hidden("pattern", many=True)]
    return value.split()


def _in_quotes(raw: str) -> str:
    return re.sub(r'\\([$`"\\])', r"\1", raw.replace("\\\n", ""))


def _blanks_before(node: Node) -> str:
    """In quotations the grammar counts some blanks before an expansion as part of it, and ends of lines."""
    raw = text_of(node)
    return _in_quotes(raw.removesuffix(_bare(node)))


def _bare(node: Node) -> str:
    return _BLANKS.sub("", text_of(node))


def text_of(node: Node) -> str:
    return (node.text or b"").decode("utf-8", "replace")
