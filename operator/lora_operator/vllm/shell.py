"""Which commands a shell script runs, with which words, as far as its text tells. Pure; nothing is executed.

The grammar is tree-sitter's for bash, which knows what a word, a comment and a quotation is. What is followed here are
variables, arrays, positional parameters, functions, `eval` and nested shells; branches are all followed, and what they
make of a variable in different ways is unknown afterwards. Whatever else there is makes a value hidden, never wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

import tree_sitter_bash
from tree_sitter import Language, Node, Parser

from lora_operator.vllm.hidden import hidden, is_hidden, may_be_many, split_apart
from lora_operator.vllm.shell_words import Scope, Words, text_of

SHELLS = frozenset({"sh", "bash", "ash", "dash", "zsh"})
TEXT_MAX = 16 * 2**10  # bound on scripts, and on what variables may grow a text to
_COMMANDS_MAX = 200
_DEPTH_MAX = 8
_SHELL_C = re.compile(r"-[a-z]*c")
_BEFORE = frozenset({"exec", "command", "builtin", "nohup", "time"})  # they run the words behind them
_SETS = frozenset({"read", "mapfile", "readarray", "getopts", "printf"})  # they set variables that they name


@dataclass(frozen=True, slots=True)
class Command:
    """One simple command: its words, and the variables when it is run. Values may be hidden in part."""

    words: tuple[str, ...]
    values: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Script:
    """The commands of a script, of all its branches. `understood` is false where a part of it could not be read."""

    commands: tuple[Command, ...]
    understood: bool


def read_script(text: str, parameters: Sequence[str], values: Mapping[str, str], *, more: bool = False) -> Script:
    """What `sh -c text name parameters…` runs. `values` are the container's variables, `more` says that there are
    others, whose names and values cannot be seen."""
    reader = _Reader(more)
    reader.run(text, Scope(dict(values), parameters=list(parameters)), 0)
    return Script(tuple(reader.commands), reader.understood)


def script_of(words: Sequence[str]) -> tuple[int, int] | None:
    """Where in the words of a command the script of a `sh -c` stands, and where its parameters begin."""
    for index, word in enumerate(words[:-1]):
        if _base(word) not in SHELLS:
            continue
        at = index + 1
        while at < len(words) - 1 and words[at].startswith("-") and not _SHELL_C.fullmatch(words[at]):
            at += 1
        if at < len(words) - 1 and _SHELL_C.fullmatch(words[at]):
            return at + 1, at + 3
    return None


@cache
def _parser() -> Parser:
    return Parser(Language(tree_sitter_bash.language()))


class _Reader:
    def __init__(self, more: bool) -> None:
        self._words = Words(more)
        self.commands: list[Command] = []
        self.understood = True
        self._visitors: dict[str, Callable[[Node, Scope, int], None]] = {
            "list": self._list,
            "pipeline": self._pipeline,
            "subshell": lambda node, scope, depth: self._each(node, scope.copy(), depth),
            "redirected_statement": lambda node, scope, depth: self._each(node, scope, depth),
            "if_statement": self._if,
            "case_statement": self._case,
            "for_statement": self._loop,
            "c_style_for_statement": self._loop,
            "while_statement": self._loop,
            "function_definition": self._function,
            "variable_assignment": lambda node, scope, depth: self._assign(node, scope),
            "unset_command": lambda node, scope, depth: scope.hide(_names(node)),
            "command": self._command,
        }

    def run(self, text: str, scope: Scope, depth: int) -> None:
        source = text[:TEXT_MAX]
        root = _parser().parse(source.encode("utf-8", "replace")).root_node
        self.understood &= not root.has_error and len(text) <= TEXT_MAX
        if depth > _DEPTH_MAX:
            self.understood = False
            return
        self._each(root, scope, depth)

    def _visit(self, node: Node, scope: Scope, depth: int) -> None:
        if node.type == "ERROR" or (node.type == "command" and node.has_error):
            self.understood = False
        elif node.type in self._visitors:
            self._visitors[node.type](node, scope, depth)
        elif text_of(node).startswith("(("):
            scope.hide(_names(node))
        elif node.type in _GROUPS:
            self._each(node, scope, depth)
        elif node.type not in _QUIET:
            self.understood = False

    def _each(self, node: Node, scope: Scope, depth: int) -> None:
        for child in node.named_children:
            self._visit(child, scope, depth)

    def _list(self, node: Node, scope: Scope, depth: int) -> None:
        """`a && b || c`: what is behind `&&` is reached only where all before it went well."""
        items: list[tuple[str, Node]] = []
        _flatten(node, "", items)
        reached, ends = scope.copy(), list[Scope]()
        for operator, item in items:
            if operator == "||":
                other = reached.copy()
                self._visit(item, other, depth)
                reached.join([other])
            else:
                self._visit(item, reached, depth)
            if item.type not in ("variable_assignment", "declaration_command"):  # those never fail
                ends.append(reached.copy())
        reached.join(ends)
        _become(scope, reached)

    def _pipeline(self, node: Node, scope: Scope, depth: int) -> None:
        for child in node.named_children:
            self._visit(child, scope.copy(), depth)

    def _if(self, node: Node, scope: Scope, depth: int) -> None:
        branches: list[Scope] = []
        for child in node.children:
            if child.type == "then":
                branches = [scope.copy()]
            elif child.type in ("elif_clause", "else_clause"):
                branches.append(scope.copy())
                self._each(child, branches[-1], depth)
            elif child.is_named:
                self._visit(child, branches[0] if branches else scope, depth)
        if any(child.type == "else_clause" for child in node.children):
            _become(scope, branches.pop())  # one of them is taken
        scope.join(branches)

    def _case(self, node: Node, scope: Scope, depth: int) -> None:
        branches = []
        for item in (child for child in node.named_children if child.type == "case_item"):
            branches.append(scope.copy())
            for index, child in enumerate(item.children):
                if child.is_named and item.field_name_for_child(index) not in ("value", "termination"):
                    self._visit(child, branches[-1], depth)
        scope.join(branches)

    def _loop(self, node: Node, scope: Scope, depth: int) -> None:
        scope.hide(_assigned(node))
        inside = scope.copy()
        for index, child in enumerate(node.children):
            if child.is_named and node.field_name_for_child(index) in ("body", "condition"):
                self._visit(child, inside, depth)
        scope.join([inside])

    def _function(self, node: Node, scope: Scope, depth: int) -> None:
        name, body = node.child_by_field_name("name"), node.child_by_field_name("body")
        if name is not None and body is not None:
            scope.functions[text_of(name)] = body

    def _assign(self, node: Node, scope: Scope) -> None:
        place, value = node.child_by_field_name("name"), node.child_by_field_name("value")
        if place is None or place.type != "variable_name":
            scope.hide(_names(node)[:1])
            return
        name = text_of(place)
        appends = any(child.type == "+=" for child in node.children)
        if value is not None and value.type == "array":
            words = [word for child in value.named_children for word in self._words.expand(child, scope)]
            before = scope.arrays.get(name, [] if name not in scope.values else [hidden(name, many=True)])
            scope.arrays[name] = [*before, *words] if appends else words
            scope.values[name] = hidden(name, many=True)
            return
        text = self._words.joined(value, scope) if value is not None else ""
        before_text = scope.values.get(name, hidden(name)) if appends else ""
        scope.arrays.pop(name, None)
        scope.values[name] = (before_text + text)[:TEXT_MAX]

    def _command(self, node: Node, scope: Scope, depth: int) -> None:
        mine = scope.copy()
        words: list[str] = []
        for child in node.named_children:
            if child.type == "variable_assignment":
                self._assign(child, mine)
            elif child.type == "command_name":
                words += [word for part in child.children for word in self._words.expand(part, scope)]
            elif child.type not in ("file_redirect", "heredoc_redirect", "herestring_redirect"):
                words += self._words.expand(child, scope)
        if words:
            self._run_words(words, scope, mine, depth)

    def _run_words(self, words: list[str], scope: Scope, mine: Scope, depth: int) -> None:
        """`mine`: the variables as this command sees them."""
        name, rest = _base(words[0]), words[1:]
        while name in _BEFORE and rest and not rest[0].startswith("-"):
            name, rest = _base(rest[0]), rest[1:]
        nested = script_of([name, *rest])
        if name == "eval":
            self.run(split_apart(" ".join(rest)), scope, depth + 1)
        elif name == "set" and rest and ("--" in rest or rest[0][:1] not in "-+"):
            scope.parameters = rest[rest.index("--") + 1 :] if "--" in rest else rest
        elif name == "shift":
            sure = not any(map(may_be_many, scope.parameters)) and all(word.isdigit() for word in rest)
            scope.parameters = scope.parameters[int(rest[0]) if rest else 1 :] if sure else [hidden("@", many=True)]
        elif name in _SETS:
            scope.hide(word for word in rest if word.isidentifier())
        elif name in scope.functions and depth < _DEPTH_MAX:
            outer, scope.parameters = scope.parameters, rest
            self._visit(scope.functions[name], scope, depth + 1)
            scope.parameters = outer
        elif nested is not None:
            script, parameters = nested
            inner = replace(mine.copy(), arrays={}, functions={}, parameters=[name, *rest][parameters:])
            self.run(split_apart([name, *rest][script]), inner, depth + 1)
        elif is_hidden(name):
            self.understood = False  # it may be anything, vLLM too
        elif len(self.commands) < _COMMANDS_MAX:
            self.commands.append(Command((name, *rest), dict(mine.values)))
        else:
            self.understood = False


_GROUPS = frozenset({
    "compound_statement", "do_group", "declaration_command", "negated_command", "variable_assignments", "elif_clause",
    "else_clause",
})  # fmt: skip
_QUIET = frozenset({
    "comment", "test_command", "file_redirect", "heredoc_redirect", "herestring_redirect", "variable_name", "word",
    "heredoc_body", "string", "raw_string", "number", "concatenation", "simple_expansion", "expansion",
})  # fmt: skip


def _become(scope: Scope, other: Scope) -> None:
    scope.values, scope.arrays = other.values, other.arrays
    scope.functions, scope.parameters = other.functions, other.parameters


def _flatten(node: Node, operator: str, items: list[tuple[str, Node]]) -> None:
    if node.type != "list":
        items.append((operator, node))
        return
    between = next((child.type for child in node.children if not child.is_named), "&&")
    first, *others = node.named_children
    _flatten(first, operator, items)
    for other in others:
        _flatten(other, between, items)


def _names(node: Node) -> list[str]:
    found = [text_of(node)] if node.type == "variable_name" else []
    return found + [name for child in node.named_children for name in _names(child)]


def _assigned(node: Node) -> list[str]:
    """The variables that something in a node sets."""
    found: list[str] = []
    if node.type == "variable_assignment" or node.type == "for_statement":
        found += _names(node)[:1]
    elif node.type == "command" and text_of(node).split(maxsplit=1)[:1] != [] and text_of(node).split()[0] in _SETS:
        found += [word for word in text_of(node).split()[1:] if word.isidentifier()]
    elif node.type in ("expansion", "arithmetic_expansion", "c_style_for_statement", "compound_statement"):
        found += _names(node) if node.type != "compound_statement" or text_of(node).startswith("((") else []
    return found + [name for child in node.named_children for name in _assigned(child)]


def _base(word: str) -> str:
    return word.rsplit("/", 1)[-1]
