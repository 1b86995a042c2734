"""What statements still need, in vocabularies whose tokens cross the borders of words, names and strings."""

from __future__ import annotations

import random

import numpy as np
import pytest

import genctl
from genctl.compilers.sql.automaton import SqlAutomaton
from genctl.constraints.base import unpack
from genctl.constraints.budget import Budget
from genctl.constraints.sql import SqlConstraint
from genctl.vocabulary import Vocabulary
from tests import naive
from tests.sql_statements import random_statement
from tests.test_sql import AUTOMATA, FORWARD, ORACLE, RULE, weight
from tests.test_sql_writes import ACCEPTED as WRITTEN
from tests.test_sql_writes import RULE as WRITES

TYPED = genctl.sql(ORACLE, literals="typed")
VALUES = genctl.sql(ORACLE, values={"a.name": ["x'y", "Rome", 'R"`o']})
PIECES = (b" [name]", b"\n[id]", b' "my col"', b"`zed`", b"FROM a", b", ", b"((", b" t1.", b" ''", b"n[", b" a)")
BYTES = {bytes([byte]) for byte in b" \n'abcdefghijklmnopqrstuvwxyz0123456789_$().,*=\"`[]<>!|-+/;"}
MOST = 400  # tokens that a budget has room for


def statements(rule: genctl.Rule, rng: random.Random) -> list[bytes]:
    if rule is WRITES:
        texts = rng.sample(WRITTEN, 4)
    else:
        automaton = AUTOMATA[rule is FORWARD]
        texts = [random_statement(automaton, rng.randrange(10**9), rng.randint(3, 20), weight) for _ in range(4)]
    words = (text.replace('"', "[") if rng.random() < 0.2 else text for text in texts)
    return ["".join(w + rng.choice([" ", " ", "\n", " \n"]) for w in text.split(" ")).encode() for text in words]


def vocabulary(texts: list[bytes], rng: random.Random) -> Vocabulary:
    """Every byte of the texts, and pieces of them that begin and end anywhere."""
    tokens = BYTES | {bytes([byte]) for text in texts for byte in text} | set(PIECES)
    for _ in range(rng.randint(20, 80)):
        text = rng.choice(texts)
        begin = rng.randrange(len(text))
        tokens.add(text[begin : begin + rng.randint(2, 9)])
    return Vocabulary((*sorted(tokens), b""), frozenset({len(tokens)}))


def law(rule: genctl.Rule, seed: int) -> int:
    """Of states along random cuts of statements: the number that was looked at."""
    rng = random.Random(seed)
    texts = statements(rule, rng)
    words, count = vocabulary(texts, rng), 0
    used, twin = (SqlConstraint(SqlAutomaton(rule.grammar), words) for _ in range(2))
    budget, tokens = Budget(used, MOST), range(len(words) - 1)
    for text in texts:
        state, other, rest = used.start(), twin.start(), text
        while rest and state:
            token = rng.choice([t for t in tokens if rest.startswith(words.tokens[t])])
            state, other = used.advance(state, token), twin.advance(other, token)
            rest = rest[len(words.tokens[token]) :]
            if not state or rng.random() < 0.6:
                continue
            need, count = twin.fewest(other), count + 1
            targets = {used.advance(state, t) for t in tokens} - {0}
            for left in rng.sample([need - 1, need, need + 1, need + 3], 4):
                fits = used.fewest.fits(state, left)
                assert fits == (need <= left), text
                if fits and not used.complete(state):
                    assert any(used.fewest.fits(target, left - 1) for target in targets), (text, rest, left)
            if rng.random() < 0.15:
                held = state * (MOST + 1) + need + rng.choice([0, 0, 1, 2])
                mask = unpack(budget.candidates(held), len(words))
                np.testing.assert_array_equal(mask, naive.mask(budget, held, len(words)), str((text, rest)))
    return count


RULES = {"plain": RULE, "forward": FORWARD, "typed": TYPED, "values": VALUES, "writes": WRITES}


@pytest.mark.parametrize("name", RULES)
def test_what_fits_ends_or_leads_to_what_fits_with_a_token_less_and_masks_are_what_is_allowed(name):
    assert law(RULES[name], 0) > 20


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(1, 9))
@pytest.mark.parametrize("name", RULES)
def test_so_it_is_for_more_statements_and_vocabularies(name, seed):
    assert law(RULES[name], seed) > 0
