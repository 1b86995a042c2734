"""The five domains of benchmarks/domains: their prefix oracles obey the law, their checkers judge, their runs add up.

    assert not refused_beginnings(possible, "c1ccccc1")      # no prefix of a text that the oracle accepts

The law is tested on real texts, on those with slips, and on all texts over small alphabets; where all texts up to a
length are asked about, that no refused beginning has an accepted text is the same law.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path
from random import Random

import numpy as np
import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

import genctl
from benchmarks.domains import Counted, Example, Oracle, compare, goals, json_schemas, molecules, patterns, report, sql
from benchmarks.domains.goals import BLOCKS, GRIPPER, Planning
from benchmarks.domains.methods import METHODS, Sizes, run
from genctl.constraints.sentences import sample

ROOT = Path(__file__).parents[1]


def refused_beginnings(oracle: Oracle, text: str) -> list[str]:
    """The prefixes, itself included, that the oracle refuses."""
    return [text[:end] for end in range(len(text) + 1) if not oracle(text[:end], False)]


def texts(alphabet: Iterable[str], longest: int) -> Iterator[str]:
    for length in range(longest + 1):
        yield from map("".join, product(alphabet, repeat=length))


def slips(text: str, random: Random, alphabet: str, count: int) -> Iterator[str]:
    """The text with one character more, less or changed."""
    for _ in range(count):
        at, character = random.randrange(len(text) + 1), random.choice(alphabet)
        yield text[:at] + random.choice(["", character]) + text[at + random.choice([0, 1]) :]


# -- patterns


PATTERNS = [
    r"a\Bb", r"(?s:.)\B.", r"(?!a$)a+", r"(?!^ab$).*", r"a(?!b$)b?a?", r"(?!a\b)a+", r"(?>a$|)(?<!a)ab", r"(?!a\Z)a+",
    r"(?(?=a$)b|ab)", r"(?m)(?!a$)a\nb|ab", r"(?!a$)a\nb", r"(a|b)\1", r"(?>a|ab)c?", r"a*+b", r"(?(?=a)ab|ba)",
    r"(a)?(?(1)b|a)", r"a(?R)?b", r"(?|(a)|(b))\1", r"(?<!^)a|b", r"(?>a(?=b)|a)a?b?", r"(?!(?!ab)).*", r"a\Kb",
    r"a(*SKIP)b|ab", r"[^$\b]+\b|[ab$]+\B", r"(?V1)[[ab]--[$]]+\B[a]", r"[]$a]+b", r"\X(?<!a)\n?", r"\R?a\R(?<=\n)",
    r"(?#$)a\b", r"(?i)(A)\1\B.", r"\p{L}\m?a$", r"(?P<x>a)(?P=x)\b", r"(?:(?!ab).)*b", r"(?<=^|b)a.*$",
]  # fmt: skip


@pytest.mark.parametrize("alphabet", ["ab", "a\n"])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_beginning_of_a_match_is_not_refused(pattern, alphabet):
    oracle, whole = patterns.full_match(pattern), regex.compile(pattern)
    for text in texts(alphabet, 6):
        assert oracle(text, True) == (whole.fullmatch(text) is not None)
        if oracle(text, True):
            assert not refused_beginnings(oracle, text)


ATOMS = st.sampled_from(
    ["a", "b", ".", "[ab]", "[^a]", "^", "$", r"\b", r"\B", r"\Z", r"\m", r"\M", r"\1", "(?(1)a|b)", r"\X", r"\w", ""]
)
RANDOM_PATTERNS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map("(?:{0[0]}|{0[1]})".format),
        st.tuples(st.sampled_from(["(?=", "(?!", "(?<=", "(?<!", "(?>", "("]), inner).map("".join).map("{})".format),
        st.tuples(inner, st.sampled_from(["?", "*", "+", "*?", "*+", "{1,2}"])).map("(?:{0[0]}){0[1]}".format),
    ),
    max_leaves=8,
).map("(a|b|)".__add__)


@given(RANDOM_PATTERNS)
def test_a_beginning_of_a_match_of_any_pattern_is_not_refused(pattern):
    oracle, whole = patterns.full_match(pattern), regex.compile(pattern)
    for text in texts("ab", 4):
        assert oracle(text, True) == (whole.fullmatch(text) is not None)
        if oracle(text, True):
            assert not refused_beginnings(oracle, text), text


REAL_LINES = [
    "a b ab abc aab aaab abab abba baab aa aaa 0 7 12 123 1234 abc123 foo foobar barfoo word words hello Hello",
    "HELLO world the_end the one two three oneone 12:30 23:59 2021-03-14 31/12/1999 14.07.1789 192.168.0.1",
    '3.14 -3.14 1e10 -2.5E-3 1+2 (1+2) (1+(2*3)) ((a)) () [] {} {"a":1} [1,2] "x" true null http://example.com',
    "https://example.com/a?b=c me@example.com 123-45-6789 +491701234567 (555)123-4567 #a1b2c3 <b>bold</b>",
    "<a><a> $5 $5.00 1,000 1,234,567 radar level abcba 1221 é É ß Ω я 日本 ١ € $ _ - ! ? ; q1 1q A1 Ab aB AB ABC",
    "abcd1234 Passw0rd! aA1! 0xFF 0b101 ff FF g zz aabb abcabc abc-abc",
]


def test_a_beginning_of_a_match_of_a_real_pattern_is_not_refused(data):
    random, matched = Random(0), 0
    with (data / "patterns.csv").open(newline="", encoding="utf-8") as file:
        found = [row["regex"] for row in csv.DictReader(file)]
    real = [text for line in REAL_LINES for text in line.split()]
    candidates = [*real, *(slip for text in real for slip in slips(text, random, "ab01 -.A(", 3))]
    for pattern in found:
        try:
            oracle = patterns.full_match(pattern)
        except genctl.ConstraintError:
            assert "(?x" in pattern
            continue
        accepted = [text for text in candidates if oracle(text, True)]
        assert not [text for text in accepted if refused_beginnings(oracle, text)]
        matched += bool(accepted)
    assert matched > len(found) / 2  # the rest is about other scripts, or long


@pytest.mark.parametrize(
    "pattern", ["(?x)a # b", "(?r)ab", "(?i-x:a)(?x:b)", "(?:abc){e<=1}", "(?:abc){2i+2d<5}", "a)"]
)
def test_a_pattern_that_cannot_be_judged_by_beginnings_is_refused(pattern):
    with pytest.raises(genctl.ConstraintError, match="at character"):
        patterns.full_match(pattern)


def test_a_pattern_leads_the_model_to_a_match():
    rule = patterns.matching(r"(day|art|é) \1")
    assert rule.accepts("day day")
    assert not rule.accepts("day art")
    assert not rule.accepts("é é")  # no ASCII
    g = genctl.load("toy").generate("a ", rule, max_new_tokens=12, num_particles=8, seed=0)
    assert g.value in ("day day", "art art")


# -- molecules


def test_a_beginning_of_a_possible_molecule_is_not_refused():
    """All texts of a few symbols; with brackets, ring bonds and elements of two letters."""
    accepted = 0
    for text in texts(["C", "N", "l", "=", "#", "(", ")", "1", "c", "[", "]", "s"], 4):
        if molecules.possible(text, True):
            assert not refused_beginnings(molecules.possible, text)
            accepted += 1
    assert accepted > 100


def real_molecules() -> list[str]:
    cases = (ROOT / "grammars" / "smiles.accept.txt").read_text("utf-8").splitlines()
    return [*molecules.DRUGS, *(text for text in cases if text and text != '""' and "\\x" not in text)]


def test_a_beginning_of_a_real_molecule_is_not_refused():
    random, accepted = Random(0), 0
    for real in real_molecules():
        for text in (real, *slips(real, random, "CNOSF=#()12%cn[]+-Hls@", 12)):
            if molecules.possible(text, True):
                assert not refused_beginnings(molecules.possible, text)
                accepted += 1
    assert accepted > 300


def test_the_drugs_are_molecules_of_the_rule():
    assert all(molecules.molecule().accepts(drug) for drug in molecules.DRUGS)


@pytest.mark.parametrize("text", ["", "C1CC", "C(", "CC(C)(C)(C)C", "F=C=C=F", "n1cccc1", "C%%"])
def test_an_impossible_molecule_is_refused(text):
    assert not molecules.molecule().accepts(text)


def test_a_beginning_of_a_molecule_of_a_collection_is_not_refused():
    config = pytest.importorskip("rdkit.RDConfig")
    lines = (Path(config.RDDataDir) / "NCI" / "first_5K.smi").read_text("utf-8").splitlines()
    accepted = [text for text in (line.split()[0] for line in lines[::20]) if molecules.possible(text, True)]
    assert len(accepted) > 200
    assert not [text for text in accepted if refused_beginnings(molecules.possible, text)]
    assert all(molecules.is_molecule(text) for text in accepted)


def test_drugs_have_a_likeness_and_noise_has_none():
    pytest.importorskip("rdkit")
    assert all(0.2 < molecules.drug_likeness(drug) < 1 for drug in molecules.DRUGS)
    assert molecules.drug_likeness("C(") == molecules.drug_likeness("") == 0
    assert not molecules.is_molecule("")


# -- goals


DOMAINS = pytest.mark.parametrize("domain", [BLOCKS, GRIPPER], ids=lambda domain: domain.name)


def goal_texts(domain: Planning, most: int) -> Iterator[tuple[str, frozenset[goals.Atom]]]:
    """All goals of so many atoms, those that contradict themselves included."""
    for count in range(1, most + 1):
        for atoms in product(domain.atoms, repeat=count):
            yield goals.spelled(atoms), frozenset(atoms)


@DOMAINS
def test_a_beginning_of_a_consistent_goal_is_not_refused_and_a_contradictory_goal_is(domain):
    oracle, verdicts = goals.consistent(domain), {}
    for text, atoms in goal_texts(domain, 2):
        assert oracle(text, True) != domain.contradictory(atoms)
        if oracle(text, True):
            begun = {text[:end] for end in range(len(text) + 1)} - verdicts.keys()
            verdicts |= {beginning: oracle(beginning, False) for beginning in begun}
    assert all(verdicts.values())


@DOMAINS
@given(data=st.data())
def test_an_atom_that_may_begin_can_be_ended(domain, data):
    seed, cut = data.draw(st.integers(0, 2**32 - 1)), data.draw(st.integers(1, 12))
    begun = goals.spelled(goals.draw(np.random.default_rng(seed), domain, data.draw(st.integers(1, 5))))[:-2]
    atoms = [goals.spelled([atom]).removeprefix("(:goal (and") for atom in domain.atoms]  # with their `))`
    last = data.draw(st.sampled_from(atoms))[:-2][:cut]
    oracle = goals.consistent(domain)
    ends = [atom for atom in atoms if atom.startswith(last) and oracle(begun + atom, True)]
    assert oracle(begun + last, False) == bool(ends)
    assert all(domain.language.accepts(begun + atom) for atom in ends)


@given(st.lists(st.sampled_from(["(and", "(:goal ", "(on b1 b2)", "(on b1", " b3", "(clear b2)", "(zz", ")", " "])))
def test_a_beginning_of_what_passes_for_a_goal_is_not_refused_whatever_it_is(pieces):
    oracle, text = goals.consistent(BLOCKS), "".join(pieces)
    if oracle(text, True):
        assert not refused_beginnings(oracle, text)


@DOMAINS
@given(data=st.data())
def test_more_atoms_do_not_lift_a_contradiction(domain, data):
    atoms = data.draw(st.frozensets(st.sampled_from(domain.atoms), max_size=6))
    more = data.draw(st.frozensets(st.sampled_from(domain.atoms), max_size=3))
    assert domain.contradictory(atoms | more) or not domain.contradictory(atoms)


@pytest.mark.parametrize(
    ("domain", "text"),
    [
        (BLOCKS, "(on b1 b1)"),
        (BLOCKS, "(on b1 b2) (on b2 b3) (on b3 b1)"),
        (BLOCKS, "(on b1 b2) (on b3 b2)"),
        (BLOCKS, "(on b1 b2) (on-table b1)"),
        (BLOCKS, "(clear b2) (on b1 b2)"),
        (GRIPPER, "(at ball1 hall) (at ball1 kitchen)"),
        (GRIPPER, "(at ball1 hall) (carry ball1 left)"),
        (GRIPPER, "(free left) (carry ball1 left)"),
        (GRIPPER, "(carry ball2 left) (carry ball1 left)"),
        (GRIPPER, "(at-robby hall) (at-robby garden)"),
        (GRIPPER, "(at b1 hall)"),
    ],
)
def test_a_goal_that_cannot_be_is_refused(domain, text):
    assert not goals.goal(domain).accepts(f"(:goal (and {text}))")


@DOMAINS
def test_what_is_drawn_from_the_grammar_of_goals_is_a_goal_for_pddl_too(domain):
    automaton, pddl = domain.language.automaton, genctl.lark("pddl")
    for seed in range(20):
        text = sample(automaton, np.random.default_rng(seed)).decode()
        assert pddl.accepts(text)
        assert goals.parsed(text) is not None


def test_a_goal_is_read_whatever_its_blanks_and_order():
    atoms = frozenset({("on", "b1", "b2"), ("clear", "b1")})
    assert goals.parsed("(:goal (and (on b1 b2) (clear b1)))") == atoms
    assert goals.parsed("(:goal (and(clear b1)\n  ( on b1  b2 ) ) )") == atoms
    for text in (
        "",
        "(and (on b1 b2))",
        "(:goal (and (on b1 b2)) x",
        "(:goal (and (on b1 b2) clear b1))",
        "(:goal (and",
    ):
        assert goals.parsed(text) is None


def test_the_tasks_of_goals_have_answers():
    for example in goals.examples(10, 0):
        assert example.rule.accepts(example.reference)
        assert example.valid(example.reference)
        assert example.score(example.reference) == 1
        assert not example.valid(example.reference + ")")


# -- JSON


def test_an_instance_is_json_that_its_schema_allows():
    schema = {"type": "object", "required": ["a"]}
    assert json_schemas.is_instance(schema, '{"a": 1}')
    assert not any(json_schemas.is_instance(schema, text) for text in ("{}", '{"a": 1', "", "[1]"))


def test_a_text_of_a_schemas_rule_is_an_instance(data):
    for example in json_schemas.examples(8, 0):
        text = sample(example.rule.automaton, np.random.default_rng(0), checks=example.rule.checks)
        assert text is not None
        assert example.rule.accepts(text.decode())
        assert example.valid(text.decode())


# -- SQL


SHOP = {
    "db_id": "shop",
    "table_names_original": ["city", "city in", "sqlite_sequence"],
    "column_names_original": [[-1, "*"], [0, "ID"], [0, "Name"], [1, "city_ID"], [1, "of year"], [2, "seq"]],
    "column_types": ["text", "number", "text", "number", "number", "text"],
    "primary_keys": [1],
    "foreign_keys": [[3, 1]],
}


@pytest.mark.parametrize(
    ("text", "obeys"),
    [
        ("SELECT Name FROM city", True),
        ("select name from city where id = 3", True),
        ("SELECT T1.Name, COUNT(*) FROM city AS T1 JOIN \"city in\" AS T2 ON T1.ID = city_ID GROUP BY Name", True),
        ("SELECT Name FROM city WHERE ID NOT IN (SELECT city_ID FROM \"city in\")", True),
        ("SELECT \"of year\" FROM \"city in\" ORDER BY \"of year\" DESC LIMIT 3", True),
        ("SELECT city_ID FROM city", False),  # a column of the other table
        ("SELECT Nme FROM city", False),
        ("SELECT seq FROM sqlite_sequence", False),
        ("SELECT T3.Name FROM city AS T1", False),
        ("DROP TABLE city", False),
    ],
)  # fmt: skip
def test_a_query_has_the_tables_and_columns_of_its_schema(text, obeys):
    assert sql.query(SHOP).accepts(text) == obeys


def test_rows_are_compared_in_order_where_the_gold_query_orders():
    database = sql.filled(SHOP, ["SELECT ID FROM city WHERE Name = 'Porto'"])
    up, down = (f"SELECT ID FROM city ORDER BY ID {way}" for way in ("ASC", "DESC"))
    assert len(sql.rows_of(database, up)) == sql.ROWS
    assert sql.rows_of(database, "SELECT ID FROM city WHERE Name = 'Porto'")
    assert sql.same(database, up, up)
    assert not sql.same(database, up, down)
    assert sql.same(database, "SELECT ID FROM city", down)
    assert not sql.same(database, "SELECT ID FROM city", "SELECT nothing FROM city")


def test_a_query_that_takes_too_long_returns_nothing():
    database = sql.filled(SHOP, [])
    many = "SELECT COUNT(*) FROM " + ", ".join(f"city AS x{i}" for i in range(6))
    assert sql.rows_of(database, many) is None
    assert sql.rows_of(database, "SELECT 1") == [(1,)]


def test_gold_queries_of_spider_are_in_the_rule_and_run(data):
    for schema, questions, database in sql.databases():
        rule = sql.query(schema)
        for question in questions:
            assert sql.rows_of(database, question["query"]) is not None
            assert rule.accepts(question["query"])


# -- the comparison


def never_twice(text: str, done: bool) -> bool:
    return len(set(text)) == len(text)


def word() -> Example:
    oracle = Counted(never_twice)
    rule = genctl.regex("[a-z]{2,4}") & genctl.predicate(oracle)

    def valid(text: str) -> bool:
        return re.fullmatch("[a-z]{2,4}", text) is not None and never_twice(text, True)

    return Example("word", [{"role": "user", "content": "a "}], rule, valid, lambda text: len(text) / 4, oracle)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_gives_weighted_texts_and_counts(name):
    lm, sizes = genctl.load("toy"), Sizes(particles=4, awrs_particles=3, max_new_tokens=6)
    row = run(lm, word(), METHODS[name], sizes, seed=0)
    assert json.loads(json.dumps(row)) == row
    assert sum(weight for _, weight in row["texts"]) <= 1 + 1e-9
    assert 0 <= row["score"] <= row["valid"] <= 1 + 1e-9
    if METHODS[name].ruled:
        assert row["valid"] == pytest.approx(1)
        assert row["tested"] == row["checks"] + row["masks"] * len(lm.language_model.vocabulary) > 0
        assert row["calls"] > 0
    else:
        assert row["tested"] == row["calls"] == 0


def test_a_dead_end_is_a_row_without_texts():
    rule = genctl.regex("[a-z]{2,4}") & (lambda text, done: len(text) < 2)
    row = run(genctl.load("toy"), word()._replace(rule=rule), METHODS["awrs-smc"], Sizes(max_new_tokens=6), seed=0)
    assert (row["texts"], row["score"], row["tested"]) == ([], 0, None)
    assert row["ended"].startswith("DeadEndError")


def test_a_text_that_was_cut_is_none():
    row = run(genctl.load("toy"), word(), METHODS["base"], Sizes(max_new_tokens=1), seed=0)
    assert (row["texts"], row["ended"]) == ([], "length")


def test_reranking_keeps_valid_texts_where_there_are_some():
    lm, sizes = genctl.load("toy"), Sizes(particles=32, max_new_tokens=8)
    anything = word()._replace(valid=lambda text: text.startswith("K"))
    row = run(lm, anything, METHODS["rerank"], sizes, seed=0)
    assert row["valid"] in (pytest.approx(1), 0)


def options(tmp_path: Path, *arguments: str) -> argparse.Namespace:
    given = ["--model", "toy", "--examples", "2", "--results", str(tmp_path / "rows.jsonl"), "--particles", "2"]
    return compare.parser().parse_args([*given, "--awrs-particles", "2", "--max-tries", "3", *arguments])


def test_a_run_that_was_stopped_goes_on_and_is_reported(tmp_path):
    chosen = options(tmp_path, "--domains", "goals", "--methods", "masked,smc-masked,awrs-smc")
    compare.fill([goals.DOMAIN], chosen)
    rows = compare.read(chosen.results)
    assert len(rows) == 6
    chosen.results.write_text("\n".join(map(json.dumps, rows[:4])) + "\n", "utf-8")
    compare.fill([goals.DOMAIN], chosen)
    again = compare.read(chosen.results)
    measured = ("seconds", "cpu", "calls")  # calls: what a grammar's masks remember stays from run to run
    assert [without(row, measured) for row in again] == [without(row, measured) for row in rows]
    assert not list(compare.missing([goals.DOMAIN], chosen))
    assert not compare.found(options(tmp_path, "--seed", "1"))
    lines = list(report.tables(again, [goals.DOMAIN]))
    assert sum(line.startswith("| awrs-smc | 2 |") for line in lines) == 1
    page = tmp_path / "page.md"
    page.write_text(f"before\n{compare.BEGIN}\nold\n{compare.END}\nafter\n", "utf-8")
    compare.write(page, lines)
    assert page.read_text("utf-8").startswith(f"before\n{compare.BEGIN}\n\nmodel: toy, seed: 0, ")
    assert page.read_text("utf-8").endswith(f"\n{compare.END}\nafter\n")
    assert "old" not in page.read_text("utf-8")


def without(row: dict, names: Iterable[str]) -> dict:
    return {key: value for key, value in row.items() if key not in names}


def test_an_interval_is_that_of_the_mean_or_of_a_ratio():
    values = [0.0, 1.0] * 50
    found = report.Interval(values)
    assert found.mean == 0.5
    assert 0.38 < found.low < 0.42 < 0.58 < found.high < 0.62  # 0.5 - 1.96 / 20, 0.5 + 1.96 / 20
    ratio = report.Interval([2.0, 6.0], [1.0, 3.0])
    assert (ratio.mean, ratio.low, ratio.high) == (2.0, 2.0, 2.0)
    assert str(report.Interval([])) == ""


def test_a_plot_shows_domains_and_methods(tmp_path):
    pytest.importorskip("matplotlib")
    row = {"domain": "d", "example": "x", "score": 0.5, "tested": 10, "tokens": 2}
    report.plot([row | {"method": method} for method in ("base", "masked")], tmp_path / "new" / "plot.png")
    assert (tmp_path / "new" / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_only_examples_of_all_methods_are_reported():
    rows = [{"domain": "d", "method": m, "example": e} for m, e in (("base", "x"), ("base", "y"), ("masked", "y"))]
    assert report.by_domain(rows) == {"d": {"base": [rows[1]], "masked": [rows[2]]}}
