"""The law of token samplers: properly weighted, whatever the logits and the constraint."""

from __future__ import annotations

import numpy as np
import pytest

from genctl.compilers.regex import compile_regex
from genctl.constraints.automaton import AutomatonConstraint
from genctl.constraints.both import Both
from genctl.constraints.budget import Budget
from genctl.constraints.predicate import PredicateConstraint
from genctl.samplers.masked import masked
from genctl.samplers.rejection import AWRS, awrs
from genctl.samplers.streams import of
from genctl.vocabulary import Vocabulary
from tests import naive
from tests.statistics import assert_mean

SAMPLERS = {
    "masked": masked,
    "awrs": awrs,
    "recursive": AWRS(tail=1),
    "recursive, tail of 3": AWRS(tail=3),
    "recursive, tail of 7": AWRS(tail=7),
    "geometric": AWRS("geometric"),
    "geometric, 5 accepts": AWRS("geometric", max_accepts=5),
}
GIVING_UP = {
    "recursive, 1": AWRS(max_rejects=1, tail=2),
    "recursive, 2": AWRS(max_rejects=2),
    "geometric, 1": AWRS("geometric", max_rejects=1),
    "geometric, 3": AWRS("geometric", max_accepts=4, max_rejects=3),
}
ROWS = 20_000

LETTERS = Vocabulary((*(bytes((97 + i,)) for i in range(9)), b""), eos=frozenset({9}))
WIDE = Vocabulary((*(b"%05d" % i for i in range(3000)), b""), eos=frozenset({3000}))


def by_automaton(pattern: str, vocabulary: Vocabulary = LETTERS) -> AutomatonConstraint:
    return AutomatonConstraint(compile_regex(pattern), vocabulary)


CONSTRAINTS = {
    "one of three": lambda: by_automaton("[ace]"),
    "all but one": lambda: by_automaton("[a-h]"),
    "may end": lambda: by_automaton("[bd]?"),
    "predicate": lambda: PredicateConstraint(lambda text, done: text in ("", "b", "i"), LETTERS),
    "budget": lambda: Budget(by_automaton("[ace]|[bf][a-i]{2}|[di][a-i]?"), 2),
    "both": lambda: Both([by_automaton("[a-d]+"), PredicateConstraint(lambda text, done: "c" not in text, LETTERS)]),
}
LOGITS = {
    "flat": np.zeros(10),
    "random": np.random.default_rng(1).normal(0, 2, 10),
    "peaked on a refused token": np.where(np.arange(10) == 5, 12.0, 0.0),
    "tiny allowed mass": np.where(np.isin(np.arange(10), (5, 6)), 50.0, np.arange(10) / 10),
    "allowed mass below float32": np.where(np.isin(np.arange(10), (5, 6, 7)), 0.0, -200.0 - np.arange(10) / 3),
    "some impossible": np.where(np.arange(10) % 2, -np.inf, np.arange(10) / 4.0),
    "duplicates": np.repeat([1.0, 3.0], 5),
}


def row_with(mass, allowed, rng):
    """Random logits of which the allowed ones have this mass."""
    row = rng.normal(0, 2, len(allowed))
    row[allowed] += np.log(mass) - np.logaddexp.reduce(row[allowed])
    row[~allowed] += np.log1p(-mass) - np.logaddexp.reduce(row[~allowed])
    return row.astype(np.float32)


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
@pytest.mark.parametrize("constraint", CONSTRAINTS.values(), ids=CONSTRAINTS)
@pytest.mark.parametrize("row", LOGITS.values(), ids=LOGITS)
def test_weighted_draws_have_the_law_of_the_allowed_tokens(sampler, constraint, row):
    _assert_law(sampler, constraint(), row)


@pytest.mark.parametrize("sampler", GIVING_UP.values(), ids=GIVING_UP)
@pytest.mark.parametrize("constraint", CONSTRAINTS.values(), ids=CONSTRAINTS)
@pytest.mark.parametrize("row", ["flat", "random", "some impossible", "duplicates"])
def test_samplers_that_give_up_have_that_law_too(sampler, constraint, row):
    """Not where hardly anything is allowed: there all particles of a sample give up."""
    _assert_law(sampler, constraint(), LOGITS[row])


def _assert_law(sampler, constraint, row):
    rows = ROWS if isinstance(constraint, AutomatonConstraint) else ROWS // 10
    logits = np.tile(row.astype(np.float32), (rows, 1))
    states = np.full(rows, constraint.start())
    draws = sampler(of(np.random.default_rng(7), len(logits)), logits, constraint, states)
    law = np.exp(logits[0].astype(np.float64) - np.logaddexp.reduce(logits[0].astype(np.float64)))
    allowed = naive.mask(constraint, constraint.start(), len(row))
    scale = max(law[allowed].max(), 1e-300)  # exp of the weights may underflow: compare in units of the largest
    weights = np.exp(draws.log_weights - np.log(scale))
    for token in range(len(row)):
        exact = law[token] / scale if allowed[token] else 0.0
        assert_mean(np.where(draws.tokens == token, weights, 0.0), exact, largest=weights.max())


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
@pytest.mark.parametrize("constraint", CONSTRAINTS.values(), ids=CONSTRAINTS)
def test_a_row_without_a_possible_token_is_a_dead_end(sampler, constraint):
    constraint = constraint()
    logits = np.full((2, 10), -np.inf, np.float32)
    draws = sampler(of(np.random.default_rng(0), len(logits)), logits, constraint, np.full(2, constraint.start()))
    assert draws.tokens.tolist() == [-1, -1]
    assert (draws.log_weights == -np.inf).all()


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_a_dead_end_is_a_weight_of_minus_infinity_and_no_token(sampler):
    constraint = by_automaton("[x-z]")  # no token of the vocabulary begins it
    draws = sampler(
        of(np.random.default_rng(0), 3), np.zeros((3, 10), np.float32), constraint, np.full(3, constraint.start())
    )
    assert draws.tokens.tolist() == [-1, -1, -1]
    assert (draws.log_weights == -np.inf).all()
    assert (draws.logprobs == -np.inf).all()


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_the_reported_logprob_is_that_of_the_token(sampler):
    logits = np.random.default_rng(3).normal(0, 3, (50, 10)).astype(np.float32)
    constraint = by_automaton("[a-h]?")
    draws = sampler(of(np.random.default_rng(0), len(logits)), logits, constraint, np.full(50, constraint.start()))
    exact = logits - np.logaddexp.reduce(logits.astype(np.float64), axis=1)[:, None]
    np.testing.assert_allclose(draws.logprobs, exact[np.arange(50), draws.tokens], rtol=1e-5, atol=1e-6)


# Not 1e-4: there AWRS finds a token within its 128 tries once in a hundred rows, and weights of 10,000 units once in
# millions, so that a sample of any size that a test can afford says nothing. 1e-8 is drawn from the mask.
@pytest.mark.parametrize("mass", [0.99, 0.5, 0.1, 0.01, 1e-8])
@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_the_mean_weight_is_the_allowed_mass_over_a_wide_vocabulary(sampler, mass):
    rng = np.random.default_rng(11)
    constraint = by_automaton("0[02]...", WIDE)  # 00000-00999 and 02000-02999
    allowed = naive.mask(constraint, constraint.start(), len(WIDE))
    logits = np.tile(row_with(mass, allowed, rng), (1500, 1))
    draws = sampler(of(rng, len(logits)), logits, constraint, np.full(1500, constraint.start()))
    assert_mean(np.exp(draws.log_weights) / mass, 1.0)


@pytest.mark.parametrize("mass", [0.99, 0.5, 0.1, 0.01])
@pytest.mark.parametrize("sampler", [awrs, AWRS(tail=4), AWRS(tail=9, max_rejects=60)])
def test_the_mean_weight_is_the_mass_that_a_predicate_allows_of_a_wide_vocabulary(sampler, mass):
    rng = np.random.default_rng(13)
    constraint = PredicateConstraint(lambda text, done: text[1:2] in ("", "0", "2") and not done, WIDE)
    allowed = naive.mask(constraint, constraint.start(), len(WIDE))
    logits = np.tile(row_with(mass, allowed, rng), (1500, 1))
    draws = sampler(of(rng, len(logits)), logits, constraint, np.full(1500, constraint.start()))
    assert_mean(np.exp(draws.log_weights) / mass, 1.0)


@pytest.mark.parametrize("row", [name for name in LOGITS if name != "allowed mass below float32"])
def test_a_predicate_is_asked_about_no_more_tokens_than_are_judged(row):
    asked = []
    for seed in range(30):
        constraint = PredicateConstraint(lambda text, done: asked.append(text) or text in "bi", LETTERS)
        state = np.array([constraint.start()])
        asked.clear()
        draws = awrs(of(np.random.default_rng(seed), 1), LOGITS[row].astype(np.float32)[None], constraint, state)
        assert len(asked) <= draws.checks[0] <= 10


def test_a_predicate_is_asked_about_two_tokens_where_one_has_nearly_all_the_mass():
    row = np.where(np.arange(3001) == 7, 15.0, 0.0).astype(np.float32)
    constraint = PredicateConstraint(lambda text, done: not done, WIDE)
    draws = awrs(of(np.random.default_rng(0), 1), row[None], constraint, np.array([constraint.start()]))
    assert draws.tokens.tolist() == [7]
    assert draws.checks.tolist() == [2]


HUGE = Vocabulary((*(b"%06d" % i for i in range(131_071)), b""), eos=frozenset({131_071}))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sampler", "mass"),
    [(name, mass) for name in ("masked", "awrs", "recursive") for mass in (0.99, 0.5, 0.1, 0.01, 1e-4, 1e-8)]
    + [("geometric, 5 accepts", mass) for mass in (0.99, 0.5, 0.1, 0.01)],
)
def test_the_mean_weight_is_the_allowed_mass_of_131_072_tokens(sampler, mass):
    """With replacement a rare token takes as many draws as it is rare: there the other estimators are for."""
    rng = np.random.default_rng(13)
    constraint = by_automaton("0[02]....", HUGE)
    allowed = naive.mask(constraint, constraint.start(), len(HUGE))
    logits = np.tile(row_with(mass, allowed, rng), (25, 1))
    exact = np.exp(
        np.logaddexp.reduce(logits[0, allowed].astype(np.float64)) - np.logaddexp.reduce(logits[0].astype(float))
    )
    states = np.full(25, constraint.start())
    weights = [np.exp(SAMPLERS[sampler](of(rng, 25), logits, constraint, states).log_weights) for _ in range(40)]
    assert_mean(np.concatenate(weights) / exact, 1.0)


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_the_same_seed_draws_the_same_tokens_on_a_fresh_and_on_a_built_automaton(sampler):
    logits = np.random.default_rng(5).normal(0, 2, (40, len(WIDE))).astype(np.float32)
    constraint = by_automaton("0[02]...|01.*", WIDE)
    states = np.full(40, constraint.start())
    first = sampler(of(np.random.default_rng(9), 40), logits, constraint, states)
    second = sampler(of(np.random.default_rng(9), 40), logits, constraint, states)
    np.testing.assert_array_equal(first.tokens, second.tokens)
    np.testing.assert_array_equal(first.log_weights, second.log_weights)
