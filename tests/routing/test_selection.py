"""Which adapter a text is for."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_scheduler.routing import Catalogue, InvalidKeywords, Selection, Topic, problem_of, selection
from lora_scheduler.routing.selection import MOST_CHARACTERS, words_of

SQL = Topic("sql", ("sql", "select * from", "join tables", "postgres*"))
MEDICAL = Topic("medical", ("diagnosis", "blood pressure", "cardi*"))
CPP = Topic("cpp", ("c++", "template metaprogramming"))
CATALOGUE = Catalogue([SQL, MEDICAL, CPP])


@pytest.mark.parametrize(
    ("text", "adapter", "matched"),
    [
        ("Why is my SQL slow?", "sql", ("sql",)),
        ("sqlite is not that word", None, ()),
        ("How do I join tables?", "sql", ("join tables",)),
        ("join the tables", None, ()),
        ("tables join", None, ()),
        ("My blood-pressure", None, ()),  # hyphenated: another word
        ("High BLOOD,\n pressure!", "medical", ("blood pressure",)),
        ("write C++ please", "cpp", ("c++",)),
        ("write c please", None, ()),
        ("ｓｑｌ in full width", "sql", ("sql",)),
        ("", None, ()),
        ("?!… 🙂", None, ()),
    ],
)
def test_words_and_phrases_are_found_as_they_stand(text: str, adapter: str | None, matched: tuple[str, ...]) -> None:
    found = CATALOGUE.select(text)
    assert (found.adapter, found.matched) == (adapter, matched)


def test_globs_match_whole_words_and_weigh_half() -> None:
    assert CATALOGUE.select("a cardiologist") == Selection(None, 0.5, ("cardi*",))
    assert CATALOGUE.select("a cardiologist", threshold=0.5).adapter == "medical"
    assert CATALOGUE.select("the postgresql cardiogram: a diagnosis") == Selection(
        "medical", 1.5, ("cardi*", "diagnosis")
    )
    assert CATALOGUE.select("select name from users") == Selection("sql", 2.5, ("select * from",))


def test_a_keyword_counts_once_however_often_it_is_there() -> None:
    assert CATALOGUE.select("sql sql sql").score == 1.0
    assert Catalogue([Topic("a", ("SQL", "sql", "Sql!"))]).select("sql").score == 1.0


def test_below_the_threshold_it_is_the_base_model() -> None:
    assert CATALOGUE.select("sql", threshold=2.0) == Selection(None, 1.0, ("sql",))
    assert CATALOGUE.select("nothing of that") == Selection(None, 0.0)


def test_ties_go_to_the_longest_keyword_then_the_priority_then_the_name() -> None:
    longer = Topic("z", ("fast red cars",), priority=-5)
    several = Topic("a", ("fast", "red", "cars"))
    assert Catalogue([several, longer]).select("fast red cars").adapter == "z"
    assert Catalogue([Topic("a", ("x",)), Topic("b", ("x",), priority=1)]).select("x").adapter == "b"
    assert Catalogue([Topic("b", ("x",)), Topic("a", ("x",))]).select("x").adapter == "a"


@pytest.mark.parametrize("keyword", ["c*", "?++", "[bc]++"])
def test_a_glob_may_have_any_wildcard(keyword: str) -> None:
    assert Catalogue([Topic("a", (keyword,))]).select("some C++ code", threshold=0.5).adapter == "a"


def test_a_glob_that_is_no_pattern_is_taken_literally() -> None:
    assert Catalogue([Topic("a", ("[x", "b*["))]).select("b x", threshold=0.5).adapter is None


def test_no_keywords_select_nothing() -> None:
    assert Catalogue([]).select("sql") == Catalogue([Topic("a", ())]).select("sql") == Selection(None, 0.0)


def test_no_text_costs_more_than_a_bounded_number_of_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = Catalogue([Topic(f"a{number}", (f"*{number}*", "plain")) for number in range(10)])
    monkeypatch.setattr(selection, "MOST_TRIES", 10)
    assert catalogue.select("x5", threshold=0.5).adapter == "a5"
    assert catalogue.select("0123456789 x5", threshold=0.5).matched == ("*0*",)
    assert catalogue.select("0123456789 plain").score == 1.5  # plain words are always found


def test_phrases_that_begin_alike_and_words_without_end_cost_no_more_either(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: Counter[str] = Counter()
    matches = selection._matches

    def counted(pattern: str | selection._Glob, word: str) -> bool:
        looks[word] += 1
        return matches(pattern, word)

    monkeypatch.setattr(selection, "_matches", counted)
    monkeypatch.setattr(selection, "MOST_LOOKS", 10)
    many = Catalogue([Topic(f"a{n}", ("sql", f"sql topic {n}")) for n in range(5)])
    assert many.select("sql topic 3 " + "sql " * 1000).matched == ("sql", "sql topic 3")
    assert looks.total() < 20
    assert Catalogue([Topic("a", ("x*y",))]).select("x" + "z" * 200 + "y").adapter is None


def test_what_is_beyond_the_limit_of_a_text_does_not_count() -> None:
    assert CATALOGUE.select("x " * (MOST_CHARACTERS // 2) + "sql").adapter is None


@pytest.mark.parametrize(
    ("topics", "words"),
    [
        ([Topic("a", ("  !",))], "'a' has no word in it"),
        ([Topic("a", ("x" * 101,))], "'a' has 101 characters"),
        ([Topic("a", tuple(f"k{n}" for n in range(101)))], "'a' has 101 keywords"),
        ([Topic("a", ("a*b*c*d*e*",))], "more than 4 wildcards"),
        ([Topic("a", ("x",)), Topic("a", ("y",))], "'a' is there twice"),
    ],
)
def test_keywords_that_cannot_be_used_are_refused_by_adapter(topics: list[Topic], words: str) -> None:
    with pytest.raises(InvalidKeywords, match=words):
        Catalogue(topics)


@pytest.mark.parametrize("keyword", ["sql", "a b", "*", "a*b*c*d*", "x" * 100])
def test_a_keyword_that_is_fit_for_use_has_no_problem(keyword: str) -> None:
    assert problem_of(keyword) == ""
    Catalogue([Topic("a", (keyword,))])


@pytest.mark.parametrize("threshold", [0.0, -1.0, float("nan"), float("inf")])
def test_a_threshold_must_be_reachable_and_say_something(threshold: float) -> None:
    with pytest.raises(InvalidKeywords, match="the threshold is"):
        CATALOGUE.select("sql", threshold)


@settings(max_examples=50, deadline=None)
@given(text=st.text(max_size=200), seed=st.integers(0, 99))
def test_any_text_is_answered_and_the_order_of_adapters_does_not_matter(text: str, seed: int) -> None:
    topics = [SQL, MEDICAL, CPP, *(Topic(f"t{n}", (word,)) for n, word in enumerate(words_of(text)[:3]))]
    mixed = random.Random(seed).sample(topics, len(topics))
    usable = [topic for topic in mixed if all(len(word) <= 100 for word in topic.keywords)]
    assert Catalogue(usable).select(text) == Catalogue(sorted(usable, key=lambda topic: topic.adapter)).select(text)


@pytest.mark.parametrize(
    "glob",
    [
        "*",
        "*sql",
        "p*",
        "po*",
        "pos*",
        "post*",
        "[p]ost*",
        "*gre*q*",
        "p*l",
        "*[p]ost*",
        "*q?",
        "?*?",
        "?ost*",
        "postgresql*",
    ],
)
def test_globs_are_found_however_much_they_have_before_the_first_wildcard(glob: str) -> None:
    assert Catalogue([Topic("a", (glob,))]).select("my postgresql", threshold=0.5).adapter == "a"
    assert Catalogue([Topic("a", (f"{glob} now",))]).select("postgresql now").matched == (f"{glob} now",)
