"""Every adapter folder that the suite has: whether it loads, and, on a real engine, whether it is answered rightly."""

from __future__ import annotations

from ..by_release import LOAD_FAILURE, NAN_LOGPROBS
from ..case import Body, Cases, Place
from ..frontend import Frontend
from ..outcomes import OUTCOMES, Outcome, difference, prompt
from ..target import Target

cases = Cases()
_SPOILS_OTHERS = ("nan", "inf")


async def _differs(t: Target, name: str, adapter: str) -> str | None:
    fields = {"logprobs": 1, "return_tokens_as_token_ids": True}
    reply = await t.complete(name, prompt(), **fields)
    if reply.status != 200:
        return f"{reply.status} {reply.text[:200]}"
    logprobs = reply.json["choices"][0]["logprobs"]
    tokens = [int(token.removeprefix("token_id:")) for token in logprobs["tokens"]]
    return difference(adapter, tokens, logprobs["token_logprobs"])


def _case(name: str) -> Body:
    async def body(t: Target) -> None:
        outcome = OUTCOMES[name][t.release]
        reply = await t.load("a", t.fixture(name))
        if outcome is Outcome.NOT_FOUND and t.frontend is Frontend.PYTHON:
            t.expect(reply, 404, "NotFoundError")
        elif outcome in (Outcome.REFUSED, Outcome.NOT_FOUND):
            t.expect(reply, *LOAD_FAILURE[t.release])
        else:
            assert reply.status == 200, reply
            if t.is_real:
                difference = await _differs(t, "a", "lora" if outcome is Outcome.AS_LORA else name)
                assert (difference is not None) is (outcome is Outcome.WRONG), difference
            else:
                assert (await t.complete("a")).status == 200

    body.__name__ = f"adapter_{name.replace('-', '_')}_has_the_outcome_of_this_release"
    return body


for _name in OUTCOMES:
    _place = Place.LAST if _name in _SPOILS_OTHERS else Place.ANY
    _row = f"the adapter `{_name}`: accepted, accepted although wrong, or refused"
    cases(_row, place=_place, changes=OUTCOMES[_name].changes)(_case(_name))


@cases("NaN weights load and answer; log probabilities of the answer are refused", place=Place.LAST, python_only=True)
async def nan_weights_answer_as_long_as_no_number_is_asked_for(t: Target) -> None:
    await t.must_load("a", t.fixture("nan"))
    assert (await t.complete("a")).status == 200
    assert (await t.complete("a", logprobs=1)).status == NAN_LOGPROBS[t.release]


@cases("the base itself answers as transformers does", real_only=True)
async def the_base_answers_as_transformers_does(t: Target) -> None:
    assert await _differs(t, "tiny", "") is None
