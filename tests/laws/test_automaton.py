"""Laws of the Automaton protocol, for every implementation."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genctl.automata.base import DEAD, UNKNOWN, UNREACHABLE, accepts, run
from genctl.automata.expressions import (
    EMPTY,
    Ahead,
    Behind,
    Bytes,
    Call,
    Embedded,
    Everything,
    Item,
    Literal,
    Row,
    Tracked,
    concat,
    optional,
    repeat,
    union,
)
from genctl.automata.product import Product
from genctl.automata.pushdown import GrammarAutomaton
from genctl.automata.tabulated import intersection
from genctl.compilers.json_schema import compile_json_schema
from genctl.compilers.json_schema.strings import CONTENT
from genctl.compilers.json_schema.words import Names
from genctl.compilers.regex import compile_regex
from genctl.errors import ConstraintError
from tests import naive

A, B = Literal(b"a"), Literal(b"b")
AB = Bytes(((0x61, 0x62),))
NESTED = {"list": concat(Literal(b"("), repeat(Call("list")), Literal(b")"))}


def ends_with(text: bytes) -> GrammarAutomaton:
    return GrammarAutomaton(concat(repeat(AB), Literal(text)))


AUTOMATA = {
    "literal": lambda: GrammarAutomaton(Literal(b"abba")),
    "nothing": lambda: GrammarAutomaton(union()),
    "empty text": lambda: GrammarAutomaton(EMPTY),
    "star": lambda: GrammarAutomaton(repeat(union(A, Literal(b"ab")))),
    "counted": lambda: GrammarAutomaton(repeat(union(A, Literal(b"bb")), 5, 7)),
    "counted in counted": lambda: GrammarAutomaton(repeat(repeat(AB, 4, 5), 4, 6)),
    "counted, empty rounds": lambda: GrammarAutomaton(repeat(union(EMPTY, A, Literal(b"ba")), 4, 5)),
    "nested": lambda: GrammarAutomaton(Call("list"), NESTED),
    "right recursion": lambda: GrammarAutomaton(Call("s"), {"s": union(B, concat(A, Call("s")))}),
    "left recursion": lambda: GrammarAutomaton(Call("s"), {"s": union(A, concat(Call("s"), B))}),
    "mutual left recursion": lambda: GrammarAutomaton(
        Call("s"), {"s": union(A, concat(Call("t"), B)), "t": union(B, concat(Call("s"), optional(Call("t")), A))}
    ),
    "highly ambiguous": lambda: GrammarAutomaton(Call("s"), {"s": union(A, concat(Call("s"), Call("s")), EMPTY)}),
    "palindromes": lambda: GrammarAutomaton(
        Call("s"), {"s": union(EMPTY, A, B, concat(A, Call("s"), A), concat(B, Call("s"), B))}
    ),
    "look-ahead": lambda: GrammarAutomaton(
        concat(repeat(A), Ahead(GrammarAutomaton(concat(Literal(b"ab"), Everything()))), repeat(AB))
    ),
    "negative look-ahead": lambda: GrammarAutomaton(
        repeat(concat(Ahead(GrammarAutomaton(concat(Literal(b"aa"), Everything())), negated=True), AB))
    ),
    "look-behind": lambda: GrammarAutomaton(concat(repeat(AB), Behind(ends_with(b"ab")), A)),
    "embedded": lambda: GrammarAutomaton(concat(A, Embedded(ends_with(b"b")), A)),
    "intersection": lambda: Product(GrammarAutomaton(repeat(concat(AB, AB))), ends_with(b"ab")),
    "difference": lambda: Product(GrammarAutomaton(repeat(AB)), ends_with(b"a"), difference=True),
    "empty intersection": lambda: Product(GrammarAutomaton(repeat(A)), GrammarAutomaton(repeat(B, 1))),
    "table": lambda: intersection(GrammarAutomaton(repeat(concat(AB, AB))), ends_with(b"ab")),
    "words": lambda: GrammarAutomaton(Tracked(CONTENT, Names(["ab", "a", "(", "b\u00e9"]), inside=True)),
    "not the words": lambda: GrammarAutomaton(Tracked(CONTENT, Names(["ab", "a", "", "b\u00e9"]), inside=False)),
    "regex": lambda: compile_regex(r"(?i)a{2,}b?|\bab\b"),
    "json": lambda: compile_json_schema({"type": "array", "items": {"type": "boolean"}}, whitespace="compact"),
}


@pytest.fixture(params=AUTOMATA, ids=str)
def automaton(request):
    return AUTOMATA[request.param]()


def reachable(automaton, depth=5, alphabet=b"ab()[,truefals") -> set[int]:
    states = {automaton.start}
    for _ in range(depth):
        states |= {automaton.step(state, byte) for state in states for byte in alphabet}
    return states


def test_the_dead_state_steps_to_itself_and_accepts_nothing(automaton):
    assert all(automaton.step(DEAD, byte) == DEAD for byte in range(256))
    assert not automaton.accepts(DEAD)
    assert automaton.distance(DEAD) == UNREACHABLE


def test_every_state_but_the_dead_one_can_be_completed(automaton):
    for state in reachable(automaton) - {DEAD}:
        assert automaton.distance(state) < UNREACHABLE


def test_the_distance_is_the_length_of_a_shortest_completion(automaton):
    states = reachable(automaton, depth=3) - {DEAD}
    for state, exact in naive.distances(automaton, states, limit=6).items():
        assert automaton.distance(state) == exact or (exact == UNREACHABLE and automaton.distance(state) > 6)


def test_the_distance_falls_by_at_most_one_with_each_byte(automaton):
    for state in reachable(automaton) - {DEAD}:
        nearest = min(automaton.distance(automaton.step(state, byte)) for byte in range(256))
        assert automaton.accepts(state) or nearest == automaton.distance(state) - 1


def test_stepping_twice_gives_the_same_state(automaton):
    for state in reachable(automaton):
        assert [automaton.step(state, b) for b in range(256)] == [automaton.step(state, b) for b in range(256)]


def test_a_row_is_the_steps_by_a_byte_of_each_class(automaton):
    classes = automaton.machine.classes.tolist()
    byte_of = [classes.index(column) for column in range(max(classes) + 1)]
    states = [automaton.start]
    for state in states:  # it grows: rows of new states are asked for before any step from them
        row = automaton.row(state)
        assert row == [automaton.step(state, byte) for byte in byte_of]
        states += [target for target in dict.fromkeys(row) if target not in states][: max(0, 100 - len(states))]


def test_the_machine_agrees_with_step_wherever_it_is_built(automaton):
    states = reachable(automaton, depth=3)
    table = automaton.machine
    for state in states:
        for byte in range(256):
            known = table.next[state, table.classes[byte]]
            assert known in (UNKNOWN, automaton.step(state, byte))
        assert table.accepting[state] == automaton.accepts(state)


def test_a_universal_state_accepts_every_text(automaton):
    for state in reachable(automaton):
        if automaton.universal(state):
            assert all(automaton.accepts(run(automaton, state, bytes(t))) for t in product(b"ab(", repeat=2))


# -- the one construction all languages come from, against its definition


def items(values: st.SearchStrategy) -> st.SearchStrategy:
    texts = st.lists(st.sampled_from([b"a", b"b", b"ab", b"aab", b""]), min_size=1, max_size=2, unique=True).map(tuple)
    return st.builds(Item, texts, values, st.booleans(), st.booleans())


def expressions(rules: list[str]) -> st.SearchStrategy:
    leaves = st.sampled_from([EMPTY, A, B, AB, Literal(b"ab"), Literal(b"ba"), union()])

    def grow(inner):
        counts = st.tuples(st.integers(0, 5), st.one_of(st.none(), st.integers(0, 6)))
        return st.one_of(
            st.tuples(inner, inner).map(lambda p: concat(*p)),
            st.tuples(inner, inner).map(lambda p: union(*p)),
            st.tuples(inner, counts).map(lambda p: repeat(p[0], *p[1])),
            st.builds(Call, st.sampled_from(rules), st.booleans()) if rules else inner,
            st.builds(Row, st.lists(items(inner), max_size=4).map(tuple), inner, inner, inner),
        )

    return st.recursive(leaves, grow, max_leaves=6)


@given(expressions(["r", "s"]), expressions(["r", "s"]), expressions(["s"]))
def test_an_automaton_accepts_exactly_the_texts_of_its_grammar(start, r, s):
    rules = {"r": r, "s": s}
    automaton = GrammarAutomaton(start, rules)
    for length in range(7):
        for text in map(bytes, product(b"ab", repeat=length)):
            assert accepts(automaton, text) == naive.language(start, rules, text)


@given(expressions([]), expressions([]), st.booleans())
def test_products_are_intersections_and_differences_of_sets(first, second, difference):
    product_ = Product(GrammarAutomaton(first), GrammarAutomaton(second), difference=difference)
    for length in range(6):
        for text in map(bytes, product(b"ab", repeat=length)):
            both = naive.language(second, {}, text) != difference
            assert accepts(product_, text) == (naive.language(first, {}, text) and both)


def test_a_large_bound_costs_nothing_before_it_is_reached():
    automaton = GrammarAutomaton(repeat(AB, 0, 10**9))
    assert accepts(automaton, b"ab" * 50)
    assert len(automaton) < 250


def test_right_recursion_does_not_pile_up_stacks():
    automaton = GrammarAutomaton(Call("s"), {"s": union(B, concat(A, Call("s")))})
    assert accepts(automaton, b"a" * 5000 + b"b")
    assert len(automaton) < 10


def test_ambiguity_does_not_pile_up_stacks():
    automaton = GrammarAutomaton(Call("s"), {"s": union(A, concat(Call("s"), Call("s")))})
    assert accepts(automaton, b"a" * 5000)
    assert len(automaton) < 10


@pytest.mark.parametrize("rule", [concat(Call("s"), A), concat(A, Call("s"))], ids=["left", "right"])
def test_a_rule_that_cannot_end_has_no_texts(rule):
    assert GrammarAutomaton(Call("s"), {"s": rule}).start == DEAD


def test_a_left_recursive_rule_may_count_itself():
    automaton = GrammarAutomaton(Call("s"), {"s": union(B, concat(repeat(Call("s"), 3, 40), A))})
    assert [accepts(automaton, text) for text in (b"b", b"bba", b"bbba", b"bbbabba")] == [True, False, True, True]


def test_an_undefined_rule_is_refused_by_name():
    with pytest.raises(ConstraintError, match="'t' is used but not defined"):
        GrammarAutomaton(Call("t"))
