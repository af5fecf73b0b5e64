"""Scripts made at random are run by a real shell, with a `vllm` on its PATH that notes its words: what the operator
reads of a script is what vllm was given, or unknown."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_operator.vllm.command import EngineCommand, read_command
from lora_operator.vllm.hidden import is_hidden, may_be_many

BASH = shutil.which("bash")
pytestmark = pytest.mark.skipif(BASH is None, reason="bash is not installed")
IN_POD = {"POD": "pod-value", "EMPTY": "", "BLANKS": "one two", "OPTION": "--max-loras 4"}
IN_IMAGE = {"IMAGE": "image-value", "ARGUMENTS": "--enable-lora --port 7", "NOTHING": ""}
NAMES = [*IN_POD, *IN_IMAGE, "UNSET", "A", "B", "C"]


class Oracle:
    """Runs scripts where nothing but the fake vllm and a few harmless programs are on the PATH."""

    def __init__(self, folder: Path) -> None:
        self._notes = folder / "notes"
        self._home = folder / "home"
        programs = folder / "bin"
        for made in (programs, self._home):
            made.mkdir()
        fake = programs / "vllm"
        fake.write_text(f'#!{BASH}\nprintf "%s\\0" "$@" >> {self._notes}\nprintf "\\n\\0" >> {self._notes}\n')
        fake.chmod(0o755)
        for program in ("cat", "env", "tee", "true", "bash", "sh"):
            found = shutil.which(program)
            if found is not None:
                (programs / program).symlink_to(found)
        self._path = str(programs)

    def run(self, script: str, parameters: list[str]) -> list[list[str]]:
        """The words of each call of vllm."""
        self._notes.write_bytes(b"")
        environment = {"PATH": self._path, "HOME": str(self._home)} | IN_POD | IN_IMAGE
        assert BASH is not None
        subprocess.run(
            [BASH, "-c", script, "name", *parameters], env=environment, cwd=self._home, timeout=30, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        words = self._notes.read_bytes().decode().split("\0")[:-1]
        calls: list[list[str]] = [[]]
        for word in words:
            if word == "\n":
                calls.append([])
            else:
                calls[-1].append(word)
        return calls[:-1]


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Oracle]:
    yield Oracle(tmp_path_factory.mktemp("shell"))


names = st.sampled_from(NAMES)
literals = st.sampled_from(
    ["m", "9000", "--enable-lora", "'a b'", '"x y"', r"a\ b", "--k=v", "''", "it'\"'\"'s", "$'q'"]
)
# What a script gives as the default counts where the pod does not have the variable: an image that sets it is not seen.
defaults = st.builds(
    str.format,
    st.sampled_from(["${{{}:-dflt}}", '"${{{}:-d f}}"', "${{{}-}}", "${{{}:=set}}"]),
    st.sampled_from([name for name in NAMES if name not in IN_IMAGE]),
)
expansions = st.builds(
    str.format,
    st.sampled_from(
        ["${}", '"${}"', "${{{}}}", '"${{{}}}"', "${{{}:+alt}}", '"${{{}+alt}}"', "${{{}##*-}}", "${{{}%e}}",
         "${{#{}}}", "pre${}post", '"pre ${} post"', "--k=${}", '--k="${}"', '"${{{}[@]}}"', "${{{}[*]}}",
         '"${{{}[0]}}"'],
    ),
    names,
)  # fmt: skip
others = st.sampled_from(
    ["$1", '"$1"', '"$@"', "$@", '"$*"', "$#", "$((1+2))", "$(echo out put)", '"$(echo out)"', "`echo x`", "*", "{a,b}",
     "~/m", '"x$@y"', '"x $@ y"', '"$A $@"', '"p $1 ${B[@]}"']
)  # fmt: skip
words = st.one_of(literals, literals, expansions, expansions, defaults, others)
options = st.sampled_from(["--port", "--max-loras", "--served-model-name", "--unknown", "--max-model-len"])
option = st.tuples(options, words)
arguments = st.lists(st.one_of(words, option.map(" ".join)), max_size=5).map(" ".join)
runs = st.builds(
    "{}vllm serve {}".format,
    st.sampled_from(["", "", "exec ", "env X=1 ", "X=1 ", "A=other ", "command ", "time "]),
    arguments,
)
assignments = st.one_of(
    st.builds("{}={}".format, names, words.filter(lambda word: " " not in word or word[0] in "'\"")),
    st.builds("{}+={}".format, names, words.filter(lambda word: " " not in word or word[0] in "'\"")),
    st.builds("{}=({})".format, names, arguments),
    st.builds("{}+=({})".format, names, arguments),
    st.builds("export {}={}".format, names, expansions),
    st.builds("unset {}".format, names),
    st.builds("read {} <<< {}".format, names, words),
    st.builds("set -- {}".format, arguments),
    st.just("shift"),
    st.builds("(( {}++ ))".format, names),
)
quiet = st.sampled_from(["true", "false", "echo vllm serve now", "# don't\ntrue", ":"])
simple = st.one_of(assignments, assignments, runs, quiet)
conditions = st.one_of(st.builds('[ -n "${}" ]'.format, names), st.sampled_from(["true", "false"]))


def compound(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    many = st.lists(inner, min_size=1, max_size=3).map("\n".join)
    return st.one_of(
        st.builds("if {}; then\n{}\nelse\n{}\nfi".format, conditions, many, many),
        st.builds("if {}; then\n{}\nfi".format, conditions, many),
        st.builds("{} && {}".format, conditions, inner),
        st.builds("{} || {}".format, conditions, inner),
        st.builds("{{ {}\n}} && {}".format, inner, inner),
        st.builds("case ${} in\n*-value)\n{}\n;;\n*)\n{}\n;;\nesac".format, names, many, many),
        st.builds("for {} in {}; do\n{}\ndone".format, names, arguments, many),
        st.builds("(\n{}\n)".format, many),
        st.builds("{{\n{}\n}} | cat".format, many),
        st.builds("f() {{\n{}\n}}\nf {}".format, many, arguments),
        st.builds("eval '{}'".format, inner.filter(lambda text: "'" not in text)),
        st.builds("eval {}".format, st.one_of(words, runs)),
        st.builds('eval "{} $@"'.format, runs.filter(lambda text: not {*text} & {*"\"'\\\\"})),
        st.builds('eval "{} \\\n  ${} \\\n  $@"'.format, runs.filter(lambda text: not {*text} & {*"\"'\\\\"}), names),
        st.builds("bash -c '{}' n {}".format, inner.filter(lambda text: "'" not in text), arguments),
        st.builds("cat <<EOF\n{}\nEOF".format, inner.filter(lambda text: "EOF" not in text)),
    )


scripts = st.lists(st.recursive(simple, compound, max_leaves=6), min_size=1, max_size=4)


@settings(max_examples=int(os.environ.get("SHELL_EXAMPLES", "150")), deadline=None)
@pytest.mark.filterwarnings("ignore:Generating overly large repr")
@given(scripts, arguments, runs)
def test_what_is_read_of_a_script_is_what_vllm_is_given_or_unknown(
    oracle: Oracle, before: list[str], parameters: str, last: str
) -> None:
    script = "\n".join([*before, last])
    given_words = [word.strip("'\"") for word in parameters.split() if "$" not in word and "`" not in word]
    env = [{"name": name, "value": value} for name, value in IN_POD.items()]
    container = {"name": "vllm", "command": ["bash", "-c", script, "name", *given_words], "env": env}
    claim = read_command(container)
    for call in oracle.run(script, given_words):
        # one word of an option and more: vLLM would not start, and how its words would be read says nothing
        if call[:1] == ["serve"] and not any(word.startswith("-") and " " in word for word in call):
            agree(claim, read_command({"command": ["vllm", *call]}), script)


def agree(claim: EngineCommand, actual: EngineCommand, script: str) -> None:
    told = f"{script!r}: {dict(claim.options)} {claim.model}, in fact {dict(actual.options)} {actual.model}"
    if claim.visible:
        assert set(claim.options) == set(actual.options), told
        assert claim.model is None or claim.model == actual.model, told
    for name, said in claim.options.items() if claim.visible else ():
        for mine, theirs in zip(said, actual.options[name], strict=False):
            if may_be_many(mine):
                break
            assert is_hidden(mine) or mine == theirs, told
