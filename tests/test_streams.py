"""Numbers by counter, and numbers that are spread over the streams of a group."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from genctl.samplers.streams import FIRST, OF_MASK, seeded

GROUPS = st.lists(st.integers(0, 3), min_size=1, max_size=12)


def test_streams_that_are_alone_in_their_groups_stay_as_they_are():
    streams = seeded(3, [(0, i) for i in range(4)])
    assert streams.together(np.array([2, 0, 3, 1])) is streams


@given(st.integers(0, 2**32), GROUPS)
def test_first_numbers_of_a_group_are_one_in_each_part_of_the_unit_interval(seed, groups):
    streams = seeded(seed, [(0, i) for i in range(len(groups))]).together(np.array(groups))
    first, of_masks = streams.uniforms(3)[:, FIRST], streams.uniforms(1, OF_MASK)[:, 0]
    assert ((first >= 0) & (first < 1) & (of_masks >= 0) & (of_masks < 1)).all()
    for group in set(groups):
        mine = np.flatnonzero(np.array(groups) == group)
        gaps = np.diff(np.sort(first[mine]), append=1 + first[mine].min())
        np.testing.assert_allclose(gaps, 1 / len(mine), atol=1e-12)
        assert len(set(of_masks[mine])) == len(mine)


@given(st.integers(0, 2**32), GROUPS)
def test_a_group_has_the_numbers_that_it_has_alone_and_its_other_numbers_stay(seed, groups):
    streams = seeded(seed, [(0, i) for i in range(len(groups))])
    spread = streams.together(np.array(groups))
    np.testing.assert_array_equal(spread.uniforms(5)[:, 1:], streams.uniforms(5)[:, 1:])
    for group in set(groups):
        mine = np.flatnonzero(np.array(groups) == group)
        alone = streams.rows(mine).together(np.zeros(len(mine), np.int64))
        np.testing.assert_array_equal(alone.uniforms(3), spread.rows(mine).uniforms(3))
        assert alone.uniform(0, OF_MASK) == spread.uniform(int(mine[0]), OF_MASK)


def test_each_of_the_spread_numbers_is_uniform_and_independent_of_the_rest_of_its_stream():
    drawn = np.array([seeded(s, [(0, i) for i in range(5)]).together(np.zeros(5)).uniforms(3) for s in range(4000)])
    of_masks = np.array(
        [seeded(s, [(0, i) for i in range(5)]).together(np.zeros(5)).uniforms(1, OF_MASK)[:, 0] for s in range(4000)]
    )
    for i in range(5):
        numbers = np.column_stack([drawn[:, i], of_masks[:, i]])
        assert np.abs(numbers.mean(axis=0) - 0.5).max() < 4 / np.sqrt(12 * 4000)
        correlations = np.corrcoef(numbers.T)[~np.eye(4, dtype=bool)]
        assert np.abs(correlations).max() < 4 / np.sqrt(4000)
