"""Which adapter a text is for, by keywords that adapters declare; no model is asked.

A keyword is one or more words. One word is found as that word (`exact`), several only next to each other in that order
(`phrase`); a word with `*`, `?` or `[…]` stands for all that match it (`glob`). Case, accents as typed and punctuation
between words do not count.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import translate

from lora_scheduler.routing.errors import InvalidKeywords

MOST_CHARACTERS = 16_384  # of a text: what comes after does not count
MOST_KEYWORDS = 100  # of one adapter
LONGEST_KEYWORD = 100
MOST_WILDCARDS = 4  # of one word: matching takes time that grows with each
MOST_LOOKS = 200_000  # at phrases that may begin at a word of one text; later words then begin none
LONGEST_WORD = 200  # of a text, for globs: a longer one is no word, and takes long to compare
MOST_TRIES = 100_000  # of globs with the words of one text; later words are then compared without globs
EXACT_WORTH, GLOB_WORTH = 1.0, 0.5  # per word: the more a keyword says, the more its being there means

_FRAGMENT = 3  # characters by which globs are looked up, so that a word is not tried with all of them
_WORD = re.compile(r"[^\W_]+(?:[-'’_.+#]*[^\W_]+|[+#]+)*")
_PATTERN = re.compile(r"\S+")
_WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Topic:
    """An adapter and the keywords that ask for it; of adapters that are asked for equally, the higher priority wins."""

    adapter: str
    keywords: tuple[str, ...]
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Selection:
    """`adapter` None: the base model, as nothing reached the threshold. `score`: of the best adapter, chosen or not;
    `matched`: which of its keywords were found."""

    adapter: str | None
    score: float
    matched: tuple[str, ...] = ()


class _Glob:
    """A word with wildcards. Compiled when it is first tried: most never are."""

    __slots__ = ("_pattern", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._pattern: re.Pattern[str] | None = None

    def matches(self, word: str) -> bool:
        if self._pattern is None:
            self._pattern = re.compile(translate(self.text))
        return self._pattern.match(word) is not None


@dataclass(frozen=True, slots=True)
class _Keyword:
    topic: int
    text: str
    words: tuple[str | _Glob, ...]
    worth: float


class Catalogue:
    """Keywords of many adapters, arranged so that a text is read once. Raises InvalidKeywords, naming the adapter."""

    def __init__(self, topics: Iterable[Topic]) -> None:
        self._topics = sorted(topics, key=lambda topic: topic.adapter)
        self._by_word: dict[str, list[_Keyword]] = {}  # by the first word, where that is no glob
        # those that begin with a glob: by a fragment of it, and by the glob, as many may have the same
        self._globs: dict[str, dict[str, tuple[_Glob, list[_Keyword]]]] = {}
        for number, topic in enumerate(self._topics):
            if number and topic.adapter == self._topics[number - 1].adapter:
                raise InvalidKeywords(f"adapter {topic.adapter!r} is there twice; give all its keywords at once")
            for keyword in _keywords(number, topic):
                first = keyword.words[0]
                if isinstance(first, str):
                    self._by_word.setdefault(first, []).append(keyword)
                else:
                    alike = self._globs.setdefault(_fragment(first.text), {})
                    alike.setdefault(first.text, (first, []))[1].append(keyword)

    def select(self, text: str, threshold: float = 1.0) -> Selection:
        """The adapter whose keywords in the text are worth most together, if that is `threshold` or more.

        Each keyword counts once: 1 per word, 0.5 per glob. Ties go to the longest single keyword found, then to the
        higher priority, then by name. Raises InvalidKeywords for a threshold of 0 or less.
        """
        if not (math.isfinite(threshold) and threshold > 0):
            raise InvalidKeywords(f"the threshold is {threshold}; use a number above 0, such as 1 for one whole word")
        found: dict[int, dict[str, float]] = {}
        for keyword in self._found(words_of(text)):
            found.setdefault(keyword.topic, {})[keyword.text] = keyword.worth
        if not found:
            return Selection(None, 0.0)
        best = max(found, key=lambda number: self._rank(number, found[number]))
        score = sum(found[best].values())
        adapter = self._topics[best].adapter if score >= threshold else None
        return Selection(adapter, score, tuple(sorted(found[best])))

    def _rank(self, number: int, worths: dict[str, float]) -> tuple[float, float, int, int]:
        return sum(worths.values()), max(worths.values()), self._topics[number].priority, -number

    def _found(self, words: Sequence[str]) -> Iterator[_Keyword]:
        phrases: dict[str, list[_Keyword]] = {}  # of several words, by the word of the text that they may begin with
        tries = looks = 0
        for at, word in enumerate(words):
            if word not in phrases:  # a text repeats its words
                likely = self._likely(word) if tries < MOST_TRIES else []
                tries += len(likely)
                globbed = (one for glob, keywords in likely if glob.matches(word) for one in keywords)
                phrases[word] = []
                for keyword in (*self._by_word.get(word, ()), *globbed):
                    if len(keyword.words) == 1:
                        yield keyword
                    else:
                        phrases[word].append(keyword)
            if looks >= MOST_LOOKS:
                continue
            looks += len(phrases[word])
            for keyword in phrases[word]:
                following = words[at : at + len(keyword.words)]
                if len(following) == len(keyword.words) and all(map(_matches, keyword.words[1:], following[1:])):
                    yield keyword

    def _likely(self, word: str) -> list[tuple[_Glob, list[_Keyword]]]:
        """Globs that this word may match, with the keywords that begin with them."""
        if not self._globs or len(word) > LONGEST_WORD:
            return []
        fragments = {word[at : at + length] for length in range(1, _FRAGMENT + 1) for at in range(len(word))}
        return [one for fragment in ("", *sorted(fragments)) for one in self._globs.get(fragment, {}).values()]


def problem_of(keyword: str) -> str:
    """Why it cannot be a keyword, and what to do; empty if it can."""
    if len(keyword) > LONGEST_KEYWORD:
        return f"has {len(keyword)} characters; {LONGEST_KEYWORD} are the most"
    words = _split(keyword)
    if not words:
        return "has no word in it; take it out"
    if any(len(_WILD.findall(word)) > MOST_WILDCARDS for word in words):
        return f"has more than {MOST_WILDCARDS} wildcards in a word; use fewer"
    return ""


def words_of(text: str) -> list[str]:
    """Words as they are compared: case folded, compatibility forms united. `C++`, `C#`, `it's` and `k8s` are words."""
    return _WORD.findall(_folded(text[:MOST_CHARACTERS]))


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _fragment(glob: str) -> str:
    """A few characters that every word has somewhere that it matches."""
    if "[" in glob:
        return _WILD.split(glob)[0][:_FRAGMENT]  # what stands in brackets is a choice
    return max(_WILD.split(glob), key=len)[:_FRAGMENT]


def _matches(pattern: str | _Glob, word: str) -> bool:
    return pattern == word if isinstance(pattern, str) else pattern.matches(word)


def _keywords(number: int, topic: Topic) -> Iterator[_Keyword]:
    if len(topic.keywords) > MOST_KEYWORDS:
        raise InvalidKeywords(
            f"adapter {topic.adapter!r} has {len(topic.keywords)} keywords; {MOST_KEYWORDS} are the most"
        )
    seen: set[tuple[str, ...]] = set()
    for text in topic.keywords:
        problem = problem_of(text)
        if problem:
            raise InvalidKeywords(f"keyword {_shown(text)} of adapter {topic.adapter!r} {problem}")
        words = _split(text)
        if words in seen:  # the same thing written twice asks no louder
            continue
        seen.add(words)
        wild = [_WILD.search(word) is not None for word in words]
        parts = tuple(_Glob(word) if is_wild else word for word, is_wild in zip(words, wild, strict=True))
        yield _Keyword(number, text, parts, sum(GLOB_WORTH if is_wild else EXACT_WORTH for is_wild in wild))


def _shown(keyword: str) -> str:
    return repr(keyword) if len(keyword) <= LONGEST_KEYWORD else f"{keyword[:20]!r}…"


def _split(text: str) -> tuple[str, ...]:
    """Words of a keyword; what has a wildcard is taken as it stands between spaces."""
    words: list[str] = []
    for part in _PATTERN.findall(_folded(text)):
        words += [part] if _WILD.search(part) else words_of(part)
    return tuple(words)
