"""Facets of numbers: the texts of an expression are those of the numbers that are admitted, by exact decimals."""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction
from time import perf_counter
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from genctl.automata.base import DEAD, Automaton, accepts, next_bytes, run, shortest_completion
from genctl.automata.pushdown import GrammarAutomaton
from genctl.compilers.json_schema import multiples as multiples_module
from genctl.compilers.json_schema import numbers as numbers_module
from genctl.compilers.json_schema.context import DRAFTS, Context, Place, decimal
from genctl.compilers.json_schema.multiples import Bound, Grid, multiples
from genctl.compilers.json_schema.numbers import Numbers, read, violations
from genctl.errors import ConstraintError

MODERN = cast(Context, SimpleNamespace(draft=DRAFTS[2020]))
OLD = cast(Context, SimpleNamespace(draft=DRAFTS[4]))
CONTEXTS = st.sampled_from([MODERN, MODERN, OLD])

WRITTEN_STEPS = "1 2 3 5 7 10 12 100 1024 0.5 0.25 0.1 0.01 0.3 1.5 2.5 0.007 1e-8 1e-5 1e16 3e17 1e300"
WRITTEN_BOUNDS = "0 1 -1 2 3.5 -7.25 10 100 0.1 0.003 -0.001 -0.0 1e-7 12345678901234567890 1e16 -1e17 3e22 1.5e300"
STEPS, BOUNDS = ([*map(Decimal, written.split())] for written in (WRITTEN_STEPS, WRITTEN_BOUNDS))
LARGE_STEPS = [Decimal("0.123456789"), Decimal(999999937), Decimal(12345678), Decimal(10) ** 9, Decimal(2) ** 70]


def automaton(facet: Numbers, context: Context) -> Automaton:
    return GrammarAutomaton(facet.expression(context))


def bounds() -> Any:
    return st.none() | st.builds(Bound, st.sampled_from(BOUNDS), st.booleans())


def steps(most: int) -> Any:
    return st.lists(st.sampled_from(STEPS), max_size=most).map(tuple)


def single_facets() -> Any:
    return st.builds(
        Numbers,
        integer=st.sampled_from([False, False, True]),
        low=bounds(),
        high=bounds(),
        fractional=st.sampled_from([False, False, False, True]),
        multiples=steps(1),
        non_multiples=steps(1),
        excluded=st.frozensets(st.sampled_from(BOUNDS), max_size=2),
    )


def facets() -> Any:
    return single_facets() | st.builds(Numbers.meet, single_facets(), single_facets())


@st.composite
def values(draw: Any, facet: Numbers) -> int | float:
    """A number near one that the facet is about."""
    marks = [*(b.value for b in (facet.low, facet.high) if b), *facet.excluded, Decimal(draw(st.integers(-30, 1200)))]
    near = draw(st.sampled_from(marks))
    step = draw(st.sampled_from([*facet.multiples, *facet.non_multiples, *STEPS[:6]]))
    match draw(st.integers(0, 5)):
        case 0:
            number = Fraction(near)
        case 1:
            number = Fraction(near) + draw(st.integers(-3, 3)) * Fraction(step)
        case 2:
            number = (Fraction(near) // Fraction(step) + draw(st.integers(-2, 2))) * Fraction(step)
        case 3:
            number = draw(st.integers(-2000, 2000)) * Fraction(step)
        case 4:
            number = Fraction(draw(st.integers(1, 10**17)) * Fraction(10) ** draw(st.integers(-30, 300)))
        case _:
            number = Fraction(near) + Fraction(draw(st.integers(-9, 9)), 10 ** draw(st.integers(0, 9)))
    if number.denominator == 1 and draw(st.booleans()):
        return int(number)
    assume(abs(number) < Fraction(10) ** 308)
    return float(number)


def verdict(facet: Numbers, value: float, context: Context) -> bool:
    """By the definitions of the keywords, one after the other."""
    number = Fraction(Decimal(repr(value)) if isinstance(value, float) else value)
    whole = number.denominator == 1 if context is MODERN else isinstance(value, int)
    low, high = facet.low, facet.high
    return not (
        (facet.integer and not whole)
        or (facet.fractional and whole)
        or (low is not None and (number < low.value or (low.strict and number == low.value)))
        or (high is not None and (number > high.value or (high.strict and number == high.value)))
        or any((number / Fraction(step)).denominator > 1 for step in facet.multiples)
        or any((number / Fraction(step)).denominator == 1 for step in facet.non_multiples)
        or any(number == one for one in facet.excluded)
    )


@given(st.data(), facets(), CONTEXTS)
def test_what_json_dumps_writes_is_accepted_exactly_where_the_number_is_wanted(
    data: Any, facet: Numbers, context: Context
) -> None:
    language = automaton(facet, context)
    for _ in range(8):
        value = data.draw(values(facet))
        wanted = verdict(facet, value, context)
        assert facet.admits(value, context) == wanted
        text = json.dumps(value)
        spelled = not (facet.integer and "e" in text)  # integers have no exponents
        assert accepts(language, text.encode()) == (wanted and spelled), (facet, value)


@given(st.data(), facets(), facets(), CONTEXTS)
def test_a_meet_admits_what_both_admit(data: Any, first: Numbers, second: Numbers, context: Context) -> None:
    both = first.meet(second)
    assert both == second.meet(first)
    for facet in (first, second):
        value = data.draw(values(facet))
        assert both.admits(value, context) == (first.admits(value, context) and second.admits(value, context))


@given(facets(), CONTEXTS)
def test_a_conflict_is_found_exactly_where_no_text_is_left(facet: Numbers, context: Context) -> None:
    assert (facet.conflict(context) is not None) == (automaton(facet, context).start == DEAD)


@given(st.data(), facets(), CONTEXTS)
def test_every_text_is_a_number_that_is_wanted(data: Any, facet: Numbers, context: Context) -> None:
    """Walks at random, ended by a shortest completion."""
    language = automaton(facet, context)
    assume(language.start != DEAD)
    state, text = language.start, b""
    for _ in range(data.draw(st.integers(0, 30))):
        following = next_bytes(language, state)
        if not following:
            break
        text += bytes([data.draw(st.sampled_from(sorted(following)))])
        state = run(language, state, text[-1:])
    text += shortest_completion(language, state)
    plain = text.lstrip(b"-").isdigit()
    value = json.loads(text, parse_float=Decimal)
    if context is MODERN or plain or not (facet.integer or facet.fractional):
        assert facet.admits(value, context), text
    else:
        assert facet.fractional, text


@given(st.data(), st.sampled_from(STEPS + LARGE_STEPS), st.lists(st.sampled_from(STEPS), max_size=1))
def test_the_lazy_automaton_is_the_table(data: Any, step: Decimal, without: list[Decimal]) -> None:
    grid = Grid.of(Fraction(step), map(Fraction, without))
    assume(grid is not None)
    assert grid is not None
    low = data.draw(st.integers(0, 3000)) * data.draw(st.sampled_from([1, 10**grid.places]))
    high = data.draw(st.none() | st.integers(0, 5000).map(lambda more: low + more * grid.step))
    form = data.draw(st.sampled_from(["any", "pointed", *(["whole"] if grid.places == 0 else [])]))
    padded = high is None and low == 0
    lazy = multiples_module._Lazy(grid, low, high, form, padded)
    assume(multiples_module._size(grid) <= multiples_module.MAX_TABLE)
    table = multiples(grid, low, high, form, padded=padded)
    assert (lazy.start == DEAD) == (table.start == DEAD)
    a, b = lazy.start, table.start
    for _step in range(25):
        assert lazy.distance(a) == table.distance(b)
        assert lazy.accepts(a) == table.accepts(b)
        assert next_bytes(lazy, a) == next_bytes(table, b)
        following = sorted(next_bytes(lazy, a))
        if not following:
            break
        byte = data.draw(st.sampled_from(following))
        a, b = lazy.step(a, byte), table.step(b, byte)


@given(st.data(), st.sampled_from(LARGE_STEPS), st.booleans(), bounds(), bounds())
def test_large_steps_are_exact_too(data: Any, step: Decimal, negated: bool, low: Any, high: Any) -> None:
    facet = Numbers(low=low, high=high, **{"non_multiples" if negated else "multiples": (step,)})
    language = automaton(facet, MODERN)
    assert (facet.conflict(MODERN) is not None) == (language.start == DEAD)
    for _ in range(4):
        value = data.draw(values(facet))
        assert accepts(language, json.dumps(value).encode()) == verdict(facet, value, MODERN), (facet, value)
    if language.start != DEAD:
        assert facet.admits(json.loads(shortest_completion(language, language.start), parse_float=Decimal), MODERN)


def places(draft: int) -> Any:
    numbers = st.sampled_from([0, 1, -1, 2.5, 10, 1e-7, 12345678901234567890, 1e16, 0.1])
    exclusive = st.booleans() if draft == 4 else numbers
    words = {"minimum": numbers, "maximum": numbers, "exclusiveMinimum": exclusive, "exclusiveMaximum": exclusive}
    step = st.sampled_from([1, 2, 0.5, 0.01, 7, 1e-8])
    schemas = st.fixed_dictionaries({}, optional=words | {"multipleOf": step})
    return schemas.map(lambda schema: Place("", schema, DRAFTS[draft]))


@given(st.data(), places(2020) | places(4))
def test_violations_are_the_numbers_that_the_keywords_do_not_allow(data: Any, place: Place) -> None:
    context = MODERN if place.draft.year > 4 else OLD
    said, broken = read(place), violations(place)
    languages = [automaton(facet, context) for facet in broken]
    for _ in range(6):
        value = data.draw(values(said))
        wanted = said.admits(value, context)
        assert any(facet.admits(value, context) for facet in broken) != wanted
        assert any(accepts(one, json.dumps(value).encode()) for one in languages) != wanted


@pytest.mark.parametrize(
    ("facet", "yes", "no"),
    [
        (
            Numbers(integer=True),
            "0 -0 1.0 -3.0 10000000000000000",
            "1e2 2.00 1.5 1e-7 1e+16 1.5e+300 2e+308",
        ),
        (Numbers(multiples=(Decimal("0.01"),)), "0 0.0 1.5 1.50 -0.25 1e+16 12.00", "1.500 0.001 1e-7 1."),
        (Numbers(multiples=(Decimal("1e-8"),)), "1e-07 2.5e-07 1e-08 12391239123 0.00000001", "1e-09 2.5e-08"),
        (Numbers(multiples=(Decimal("0.123456789"),)), "0 0.123456789 123456789 1.23456789e+20", "1e+308 1"),
        (Numbers(multiples=(Decimal(10) ** 17,)), "0 100000000000000000 1e+17 2e+300", "1e+16 1.5e+17"),
        (Numbers(non_multiples=(Decimal(1),)), "1.5 1.50 0.001 1e-07 9.99", "1 1.0 1.00 1e+16 0 0.0"),
        (Numbers(non_multiples=(Decimal(10),)), "1 1.5 1e-07 15", "10 10.0 0 0.00 1e+16 100"),
        (Numbers(excluded=frozenset([Decimal(0)])), "1 0.1 -0.1 1e-07", "0 -0 0.0 0e5 -0.00"),
        (Numbers(integer=True, excluded=frozenset([Decimal(2)])), "1 3 1.0 20", "2 2.0"),
    ],
)
def test_spellings(facet: Numbers, yes: str, no: str) -> None:
    language = automaton(facet, MODERN)
    assert [text for text in yes.split() if not accepts(language, text.encode())] == []
    assert [text for text in no.split() if accepts(language, text.encode())] == []


def test_without_values_leaves_out_every_spelling() -> None:
    facet = Numbers(integer=True).without_values([Decimal(1)]).without_values([Decimal(3)])
    assert facet == Numbers(integer=True, excluded=frozenset([Decimal("1.0"), Decimal(3)]))


@pytest.mark.parametrize("step", [0, -1, "2", True, None])
def test_a_step_must_be_a_number_above_zero(step: object) -> None:
    with pytest.raises(ConstraintError, match="`multipleOf` must be"):
        read(Place("", {"multipleOf": step}, DRAFTS[2020]))


TYPICAL = [
    Numbers(integer=True),
    Numbers(integer=True, low=Bound(Decimal(0), False), high=Bound(Decimal(65535), False)),
    Numbers(low=Bound(Decimal(0), True), high=Bound(Decimal(1), False)),
    Numbers(multiples=(Decimal("0.01"),), low=Bound(Decimal(0), False)),
    Numbers(integer=True, multiples=(Decimal(5),), low=Bound(Decimal(0), False), high=Bound(Decimal(100), False)),
    Numbers(non_multiples=(Decimal(1),)),
    Numbers(integer=True, excluded=frozenset(map(Decimal, range(0, 50, 3)))),
]


def seconds(facet: Numbers, *, first: bool) -> float:
    if first:
        for cache in (numbers_module._expression, numbers_module._between, multiples):
            cache.cache_clear()
    began = perf_counter()
    facet.expression(MODERN)
    return perf_counter() - began


@pytest.mark.parametrize("facet", TYPICAL, ids=repr)
def test_typical_facets_compile_in_milliseconds(facet: Numbers) -> None:
    """The best of some runs: others may be at work on the machine."""
    assert min(seconds(facet, first=True) for _ in range(9)) < 0.005
    assert min(seconds(facet, first=False) for _ in range(9)) < 0.001


def test_decimal_is_the_shortest_spelling() -> None:
    assert decimal(0.1) == Decimal("0.1")
