"""Operators on rules, and rules made of texts: each against its definition over all short texts."""

from __future__ import annotations

import enum
import inspect
import re
from itertools import combinations_with_replacement, product

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import genctl
from genctl.automata.base import accepts, run
from genctl.automata.compose import alternatives, chain, rounds
from genctl.automata.expressions import Embedded, Expression
from genctl.automata.product import Product
from genctl.automata.substring import Substrings, suffix_array
from genctl.errors import ArgumentError, ConstraintError, GenctlWarning, UnsatisfiableError
from tests.laws import test_automaton

LONGEST = 4
TEXTS = frozenset("".join(text) for length in range(LONGEST + 1) for text in product("abé", repeat=length))


def texts_of(rule) -> frozenset[str]:
    return frozenset(text for text in TEXTS if rule.accepts(text))


# -- every operator is what sets of texts say

PATTERNS = ["a", "b*", "ab|é", "[ab]{2,3}", "(a|bé)+", "", r"\b[ab]+", "(?=ab)[abé]*", "(?!a)[abé]{1,2}", ".*(?<=a)"]
LEAVES = st.one_of(st.sampled_from(PATTERNS).map(lambda p: ("regex", p)), st.sampled_from(["ab", "é"]))


def _grown(inner):
    return st.one_of(
        st.tuples(st.sampled_from("&|+-"), inner, inner),
        st.tuples(st.just("~"), inner),
        st.tuples(st.just("repeat"), inner, st.integers(0, 2), st.one_of(st.none(), st.integers(2, 3))),
    )


TREES = st.recursive(LEAVES, _grown, max_leaves=5)


def concatenated(left, right):
    return frozenset(a + b for a in left for b in right if len(a + b) <= LONGEST)


def repeated(body, least, most):
    found, layer = frozenset(), frozenset({""})
    for count in range((most if most is not None else least + LONGEST) + 1):
        found |= layer if count >= least else frozenset()
        layer = concatenated(layer, body)
    return found


SETS = {
    "&": lambda a, b: a & b,
    "|": lambda a, b: a | b,
    "+": concatenated,
    "-": lambda a, b: a - b,
    "~": lambda a: TEXTS - a,
    "repeat": repeated,
}
RULES = {
    "&": lambda a, b: a & b,
    "|": lambda a, b: a | b,
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "~": lambda a: ~a,
    "repeat": lambda a, least, most: a.repeat(least, most),
}


def built(tree):
    """(rule or str, set of its short texts) of a tree."""
    if isinstance(tree, str):
        return tree, frozenset({tree})
    operator, *operands = tree
    if operator == "regex":
        return genctl.regex(operands[0]), frozenset(text for text in TEXTS if re.fullmatch(operands[0], text))
    pairs = [built(operand) if isinstance(operand, tuple | str) else (operand, operand) for operand in operands]
    rules, sets = [rule for rule, _ in pairs], [texts for _, texts in pairs]
    if isinstance(rules[0], str) and (operator not in "|+" or isinstance(rules[1], str)):
        rules[0] = genctl.choice([rules[0]])
    if isinstance(rules[-1], str) and operator == "&":
        rules[-1] = genctl.choice([rules[-1]])
    expected = SETS[operator](*sets)
    try:
        return RULES[operator](*rules), expected
    except UnsatisfiableError:
        assert not expected
        return assume(False)


@given(TREES)
def test_an_operator_on_rules_is_that_operator_on_their_sets_of_texts(tree):
    rule, expected = built(tree)
    assume(not isinstance(rule, str))
    assert texts_of(rule) == expected


@given(TREES)
def test_a_rule_made_by_operators_has_well_formed_texts_only(tree):
    rule, _ = built(tree)
    assume(not isinstance(rule, str))
    for raw in (b"\xff", b"\xc3", b"a\xa9", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80"):
        assert not accepts(rule.automaton, raw)
    assert not rule.accepts("\ud800")


def test_operators_mix_patterns_types_choices_and_texts():
    number, word = genctl.json(int), genctl.choice(["one", "two"])
    item = number | word
    rule = "[" + item + (", " + item).repeat(0, 3) + "]" - genctl.regex(".*two, two.*")
    assert rule.accepts("[-12, one, two]")
    assert not rule.accepts("[]")
    assert not rule.accepts("[one, two, two]")
    assert not rule.accepts("[1, 2, 3, 4, 5]")


def test_json_rules_with_the_same_rule_names_are_kept_apart():
    def nested(kind):
        return {"anyOf": [{"type": kind}, {"type": "array", "items": {"$ref": "#"}}]}

    first, second = (genctl.json(nested(kind), whitespace="compact") for kind in ("null", "boolean"))
    assert set(first.automaton.grammar.rules) & set(second.automaton.grammar.rules)
    assert (first + second).accepts("[[null]][[true]]")
    assert not (first + second).accepts("[[null]][[null]]")
    assert not (first + second).accepts("[[true]][[true]]")
    thrice = (second + first) + (first | second)
    assert thrice.accepts("truenull[null]")
    assert thrice.accepts("truenull[false]")
    assert not thrice.accepts("truetrue[null]")


def embedded(expression: Expression) -> list[Embedded]:
    if isinstance(expression, Embedded):
        return [expression]
    parts = (*getattr(expression, "parts", ()), *([expression.body] if hasattr(expression, "body") else ()))
    return [found for part in parts for found in embedded(part)]


def test_a_grammar_becomes_a_part_of_the_whole_and_look_around_sees_its_own_text_alone():
    plain, sighted = genctl.regex("[ab]+"), genctl.regex("(?!aa)[ab]+")
    assert not embedded(chain([plain.automaton, plain.automaton]).grammar.start)
    assert len(embedded((plain + sighted).automaton.grammar.start)) == 1
    assert (sighted + "a").accepts("aa")
    assert not genctl.regex("(?!aa)[ab]+a").accepts("aa")


def test_the_same_automaton_is_taken_in_once():
    automaton = genctl.json({"type": "array", "items": {"type": "array"}}).automaton
    assert len(chain([automaton] * 5).grammar.rules) == len(automaton.grammar.rules)


# -- values


def test_a_text_has_the_value_of_the_part_of_the_rule_that_knows_it():
    number, word = genctl.json(int), genctl.regex("[0-9a-z]+")
    assert (number | word).value("12") == 12
    assert (word | number).value("12") == "12"
    assert (number | word).value("ab") == "ab"
    assert (number - "7").value("8") == 8
    assert (number & word).value("8") == (word & number).value("8") == 8
    assert (number + word).value("8a") == "8a"
    assert number.repeat(1, 2).value("8") == "8"
    assert (~number).value("x") == "x"


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@pytest.mark.parametrize(
    ("options", "values"),
    [
        (["yes", "no"], {"yes": "yes", "no": "no"}),
        (Color, {"red": Color.RED, "blue": Color.BLUE}),
        ((1, 2.5, None, True, ""), {"1": 1, "2.5": 2.5, "None": None, "True": True, "": ""}),
        ({"one": 1, "eins": 1}, {"one": 1, "eins": 1}),
        (["a", "ab", "abc"], {"a": "a", "ab": "ab", "abc": "abc"}),
    ],
)
def test_a_choice_has_the_texts_of_its_options_and_their_values(options, values):
    rule = genctl.choice(options)
    assert {text: rule.value(text) for text in values} == values
    assert all(map(rule.accepts, values))
    assert not any(rule.accepts(text + "x") or rule.accepts("x" + text) for text in values)


def test_ten_thousand_options_are_one_prefix_tree():
    names = [f"{number:x}-{number * 7919}" for number in range(10_000)]
    rule = genctl.choice(names)
    assert all(map(rule.accepts, names[::97]))
    assert not rule.accepts(names[5] + "0")
    assert len(rule.automaton) < sum(map(len, names[::97])) + 50


# -- parts of a text


def units_of(text: str, unit: str) -> list[tuple[set[int], set[int]]]:
    """Where parts may begin and end, for each unit."""
    if unit == "characters":
        return [({at}, {at + 1}) for at in range(len(text))]
    units = []
    for found in re.finditer(r"\S+" if unit == "words" else r"[^\n]+", text):
        begin, end = found.span()
        begins, ends = {begin}, {end}
        if unit == "words":
            while begin < end and text[begin] in "()":
                begin += 1
            while begin < end and text[end - 1] in "().":
                end -= 1
        units.append((begins | {begin}, ends | {end}) if begin < end else (begins, ends))
    return units


def parts_of(text: str, unit: str, least: int, most: int | None) -> set[str]:
    units = units_of(text, unit)
    found = {""} if least == 0 else set()
    for first, last in combinations_with_replacement(range(len(units)), 2):
        if max(least, 1) <= last - first + 1 <= (len(units) if most is None else most):
            found |= {text[i:j] for i in units[first][0] for j in units[last][1]}
    return found


QUOTED = st.text("ab", min_size=1, max_size=9) | st.text("ab é\n", max_size=14)
BOUNDS = st.tuples(st.integers(0, 3), st.one_of(st.none(), st.integers(3, 4)))


@given(QUOTED, BOUNDS, st.sampled_from(["characters", "words", "lines"]))
def test_a_substring_is_a_part_of_the_text_from_unit_to_unit(text, bounds, unit):
    check_substring(text, unit, *bounds)


@given(st.text("a(). ", max_size=14), BOUNDS)
def test_brackets_and_stops_around_a_quoted_word_may_stay_or_go(text, bounds):
    assume(
        not re.search(r"(?<!\S)[(.)]+(?!\S)|\)+[^\s.)]|(?<!\S)\.", text)
    )  # words of punctuation alone, or inside out
    check_substring(text, "words", *bounds)


def check_substring(text, unit, least, most):
    expected = parts_of(text, unit, least, most)
    if not expected:
        with pytest.raises(UnsatisfiableError):
            genctl.substring(text, unit=unit, least=least, most=most)
        return
    rule = genctl.substring(text, unit=unit, least=least, most=most)
    everything = {text[i:j] for i, j in combinations_with_replacement(range(len(text) + 1), 2)}
    for part in everything | {part + "a" for part in expected}:
        assert rule.accepts(part) == (part in expected), part


@given(st.text("ab é", min_size=1, max_size=12))
def test_every_prefix_of_a_part_knows_its_nearest_end(text):
    automaton = genctl.substring(text, unit="words", least=2).automaton if len(text.split()) > 1 else None
    assume(automaton is not None)
    ends = {part.encode() for part in parts_of(text, "words", 2, None)}
    for end in {part[:length] for part in ends for length in range(len(part) + 1)}:
        nearest = min(len(part) - len(end) for part in ends if part.startswith(end))
        assert automaton.distance(run(automaton, automaton.start, end)) == nearest


@given(st.binary(max_size=40) | st.text("ab", max_size=40).map(str.encode))
def test_a_suffix_array_sorts_the_suffixes(text):
    assert suffix_array(text).tolist() == sorted(range(len(text)), key=lambda at: text[at:])


def test_a_hundred_thousand_characters_have_at_most_two_states_each():
    text = "".join(f"{number} squared is {number * number}; " for number in range(5000))[:100_000]
    assert len(text) == 100_000
    rule = genctl.substring(text)
    for begin in range(0, 98_000, 9973):
        assert rule.accepts(text[begin : begin + 2000])
    assert not rule.accepts("squared is not")
    again = Substrings(b"ab" * 400, [((at,), (at + 1,)) for at in range(800)])
    assert all(accepts(again, (b"ab" * 400)[at:]) for at in range(800))
    assert len(again) <= 2 * 800 + 1


def test_a_quoted_word_is_whole():
    rule = genctl.substring("He said: (Lisbon, 3.5 km) -2 °C.", unit="words", most=2)
    for part in ("Lisbon", "(Lisbon,", "3.5", "3.5 km", "km)", "-2 °C", "said", "°C."):
        assert rule.accepts(part), part
    for part in ("isbon", "3", "5", "2", "Lisbon, 3.5 km", " km", "C"):
        assert not rule.accepts(part), part


# -- free text

STOPS = st.lists(st.sampled_from(["a", "b", "ab", "aba", "bb", "é", "bé", "aaa"]), min_size=1, max_size=3, unique=True)


@given(STOPS)
@pytest.mark.filterwarnings("ignore::genctl.GenctlWarning")
def test_free_text_ends_with_the_first_stop(stops):
    rule, open_ = genctl.until(stops), genctl.until(stops, include=False)
    for text in TEXTS:
        first = min((end for end in range(1, len(text) + 1) if text[:end].endswith(tuple(stops))), default=None)
        assert rule.accepts(text) == (first == len(text))
        assert open_.accepts(text) == (first is None)
        if first == len(text):
            longest = max((stop for stop in stops if text.endswith(stop)), key=len)
            assert rule.value(text) == text.removesuffix(longest)


@given(st.sampled_from(["a", "ab", "aba", "aab", "é"]), st.booleans())
def test_the_rule_begins_behind_the_first_trigger(trigger, required):
    rule = genctl.after(trigger, genctl.regex("b?a?"), required=required)
    for text in TEXTS:
        at = text.find(trigger)
        rest = text[at + len(trigger) :] if at >= 0 else None
        obeys = not required if rest is None else rest in ("", "b", "a", "ba")
        assert rule.accepts(text) == obeys
        if obeys:
            assert rule.value(text) == rest


def test_what_comes_behind_the_trigger_has_its_own_value():
    rule = genctl.after("</think>", list[int])
    assert rule.value("hm </think </think>[1, 2]") == [1, 2]
    assert rule.accepts("é</think></think>") is False
    assert genctl.after("</think>", genctl.choice(["</think>!"])).value("</think></think>!") == "</think>!"


def test_stops_that_can_never_end_a_text_are_pointed_out():
    with pytest.warns(GenctlWarning, match="'abc' never ends a text: 'b'"):
        genctl.until(["abc", "b"])


# -- templates


@given(st.lists(st.sampled_from(["a", "b", ""]), min_size=1, max_size=3), st.data())
def test_a_template_cuts_a_text_as_short_as_possible_from_the_left(between, data):
    names = "xyz"[: len(between)]
    patterns = {name: data.draw(st.sampled_from(["a*", "[ab]+", ".*", "a|ab|b", "(ab)*"])) for name in names}
    rule = genctl.template(
        "".join(f"{text}{{{name}}}" for text, name in zip(between, names, strict=True)),
        **{name: genctl.regex(pattern) for name, pattern in patterns.items()},
    )
    for text in TEXTS:
        cuts = []
        for ends in combinations_with_replacement(range(len(text) + 1), len(names)):
            spans = zip((0, *ends), ends, strict=False)
            found = [text[begin:end] for begin, end in spans]
            fits = all(part.startswith(prefix) for part, prefix in zip(found, between, strict=True))
            values = [part[len(prefix) :] for part, prefix in zip(found, between, strict=True)]
            matched = all(re.fullmatch(patterns[name], value) for name, value in zip(names, values, strict=True))
            if ends[-1] == len(text) and fits and matched:
                cuts.append((list(map(len, values)), dict(zip(names, values, strict=True))))
        assert rule.accepts(text) == bool(cuts)
        if cuts:
            assert rule.value(text) == min(cuts, key=lambda cut: cut[0])[1]


def test_the_fields_of_a_template_have_values_of_their_own():
    inner = genctl.template("({x})", x=int)
    rule = genctl.template(
        "Name: {name}, age {age} {{{at}}} {fixed}", name=genctl.regex(".*"), age=int, at=inner, fixed="!"
    )
    text = "Name: Ada, age 3, age 36 {(7)} !"
    assert rule.accepts(text)
    assert rule.value(text) == {"name": "Ada, age 3", "age": 36, "at": {"x": 7}, "fixed": "!"}
    assert list(rule.value(text)) == ["name", "age", "at", "fixed"]


def test_a_text_is_cut_in_time_that_grows_with_its_length_alone():
    rule = genctl.template("{a}{b}{c}", a=genctl.regex("(?s).*"), b=genctl.regex("x*"), c=genctl.regex("(x|xx)*"))
    assert rule.value("x" * 5000) == {"a": "", "b": "", "c": "x" * 5000}


# -- refusals

DIGITS = genctl.regex("[0-9]+")
JUDGE = genctl.predicate(lambda text, done: True)

REFUSED = {
    "union with a predicate": (lambda: DIGITS | JUDGE, "a predicate judges a whole text, it cannot take part in |"),
    "concatenation with a conjunction": (lambda: (DIGITS & JUDGE) + "a", "cannot take part in +"),
    "function on the left": (lambda: (lambda text, done: True) | DIGITS, "cannot take part in |"),
    "complement of a predicate": (lambda: ~JUDGE, "cannot take part in ~"),
    "difference with a predicate": (lambda: DIGITS - JUDGE, "cannot take part in -"),
    "repetition of a predicate": (lambda: JUDGE.repeat(), "cannot take part in repeat"),
    "text under &": (lambda: DIGITS & "7", "genctl.choice(['7'])"),
    "text under & on the left": (lambda: "7" & DIGITS, "genctl.choice(['7'])"),
    "generic type under &": (lambda: DIGITS & list[int], "list[int] cannot be joined to a rule with &"),
    "generic type under +": (lambda: DIGITS + list[int], "genctl.json(type)"),
    "type under |": (lambda: DIGITS | int, "genctl.json(type)"),
    "empty intersection": (lambda: DIGITS & genctl.regex("[a-z]+"), "no text obeys both"),
    "empty difference": (lambda: DIGITS - genctl.regex(r"\d+"), "every text that obeys '[0-9]+' obeys"),
    "empty complement": (lambda: ~genctl.regex("(?s).*"), "every text obeys"),
    "surrogate": (lambda: "a\ud800" + DIGITS, "at characters 1-2: a lone surrogate"),
    "rounds out of order": (lambda: DIGITS.repeat(3, 2), "most is 2, it must be at least 3"),
    "rounds without a least": (lambda: DIGITS.repeat(None), "least is None"),
    "negative rounds": (lambda: DIGITS.repeat(-1), "least is -1"),
    "no options": (lambda: genctl.choice([]), "there is no option"),
    "one text as options": (lambda: genctl.choice("yes"), "give a list of options"),
    "options written alike": (lambda: genctl.choice(["1", 1]), "two options are written '1': '1' and 1"),
    "option without a text": (lambda: genctl.choice([object()]), "give a mapping"),
    "keys that are no text": (lambda: genctl.choice({1: "one"}), "1 is a key of the options, but no text"),
    "empty text to quote": (lambda: genctl.substring(""), "the text has 0 characters, a part needs at least 1"),
    "too few words": (lambda: genctl.substring("a b", unit="words", least=3), "the text has 2 words"),
    "unknown unit": (lambda: genctl.substring("a", unit="word"), "one of characters, words, lines"),
    "list to quote": (lambda: genctl.substring(["a"]), "no text to quote from"),
    "empty stop": (lambda: genctl.until(""), "'' cannot end a free text"),
    "no stops": (lambda: genctl.until([]), "no text to stop at"),
    "predicate behind a trigger": (lambda: genctl.after("x", JUDGE), "cannot take part in after"),
    "nothing behind a trigger": (lambda: genctl.after("x", None), "after has no rule"),
    "nameless field": (lambda: genctl.template("a {} b", x=int), "at characters 2-4: a field without a name"),
    "format specification": (lambda: genctl.template("{x:>3}", x=int), "at characters 0-6: 'x:>3' is no name"),
    "lone brace": (lambda: genctl.template("{x} }", x=int), "at characters 4-5: a lone '}'"),
    "field twice": (lambda: genctl.template("{x}{x}", x=int), "at characters 3-6: the field 'x' comes twice"),
    "field without a rule": (lambda: genctl.template("a{x}"), "at characters 1-4: the field 'x' has no rule"),
    "rule without a field": (lambda: genctl.template("{name}", name=int, nmae=int), "did you mean 'name'?"),
    "predicate in a field": (lambda: genctl.template("{x}", x=JUDGE), "cannot take part in the field x"),
    "malformed pattern in a field": (lambda: genctl.template("{x}", x=genctl.regex("(")), "characters 0-1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_enforced_is_refused_when_the_rule_is_made(name):
    make, message = REFUSED[name]
    with pytest.raises((ConstraintError, ArgumentError)) as caught:
        make()
    assert message in str(caught.value)


# -- the laws of automata

AUTOMATA = {
    "alternatives": lambda: alternatives([genctl.regex("a+").automaton, genctl.regex(r"\bab\b").automaton]),
    "chain": lambda: (genctl.regex("(a|b)*") + genctl.regex(r"a\b") + "(").automaton,
    "rounds": lambda: rounds(Product(genctl.regex("[ab]+").automaton, genctl.regex("..?").automaton), 2, 4),
    "complement": lambda: (~genctl.regex("a*b?")).automaton,
    "complement twice": lambda: (~~genctl.regex("(ab)*")).automaton,
    "choice": lambda: genctl.choice(["ab", "a", "(", "bé"]).automaton,
    "substring": lambda: genctl.substring("abab(é").automaton,
    "no substring": lambda: Substrings(b"ab", [((0,), (1,))], 2),
    "empty substring": lambda: Substrings(b"", [], 0),
    "words": lambda: genctl.substring("ab [ab] abb, b", unit="words", least=2, most=3).automaton,
    "lines": lambda: genctl.substring("ab\nab\n\nb", unit="lines", least=0, most=1).automaton,
    "until": lambda: genctl.until(["ab", "bb"]).automaton,
    "without": lambda: genctl.until(["aba", "("], include=False).automaton,
    "after": lambda: genctl.after("ab", bool | None).automaton,
    "perhaps after": lambda: genctl.after("ab", genctl.substring("abba"), required=False).automaton,
    "template": lambda: genctl.template("({x}{y})", x=genctl.regex("a*b"), y=genctl.substring("ab")).automaton,
}
LAWS = [
    law
    for name, law in vars(test_automaton).items()
    if name.startswith("test_") and [*inspect.signature(law).parameters] == ["automaton"]
]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", AUTOMATA)
def test_automata_made_by_operators_obey_the_laws_of_automata(name, law):
    law(AUTOMATA[name]())


# -- generation

NAME = genctl.regex("[A-Z][a-z]{1,5}")
SENTENCE = "the cat sat on the mat"
GENERATED = {
    "choice": (genctl.choice(Color), lambda value: value in Color),
    "alternatives": (genctl.json(bool) | NAME, lambda value: isinstance(value, bool | str)),
    "chain": ("Dear " + NAME + ("," | genctl.json(bool)), lambda value: value.startswith("Dear ")),
    "rounds": ((NAME + " ").repeat(2, 3), lambda value: value.count(" ") in (2, 3)),
    "difference": (genctl.choice(["yes", "no"]) - "yes", lambda value: value == "no"),
    "complement": (~genctl.regex("(?s).{9,}|[^e]*") & genctl.regex("[a-z ]+"), lambda value: "e" in value),
    "quotation": (genctl.substring(SENTENCE, unit="words", most=3), lambda value: value in SENTENCE),
    "template": (
        genctl.template("Name: {name}, age {age}", name=NAME, age=genctl.choice(range(99))),
        lambda value: value["name"].isalpha() and value["age"] < 99,
    ),
    "until": (genctl.until(["a", "e", "."]), lambda value: not set("ae.") & set(value)),
    "after": (genctl.after("n", tuple[bool, bool]), lambda value: len(value) == 2),
}


@pytest.mark.parametrize("name", GENERATED)
def test_a_model_writes_what_the_rule_says(name):
    rule, right = GENERATED[name]
    for g in genctl.load("toy").generate("the ", rule, max_new_tokens=200, num_return_sequences=4, seed=1):
        assert g.finish_reason == "complete"
        assert rule.accepts(g.text)
        assert right(g.value)
