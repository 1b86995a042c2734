"""The garbage collector rests while a rule is compiled, and is as it was behind it."""

from __future__ import annotations

import gc

import pytest

import genctl
from genctl.collector import uncollected


@pytest.mark.parametrize("collects", [True, False])
def test_the_collector_rests_and_is_as_it_was_whatever_happens(collects: bool) -> None:
    @uncollected
    def work(fails: bool) -> bool:
        if fails:
            raise KeyError
        return gc.isenabled()

    was = gc.isenabled()
    try:
        (gc.enable if collects else gc.disable)()
        assert work(fails=False) is False
        with pytest.raises(KeyError):
            work(fails=True)
        genctl.json({"type": "array", "items": {"enum": [1, 2]}})
        with pytest.raises(genctl.ConstraintError):
            genctl.json({"type": "arrow"})
        assert gc.isenabled() == collects
    finally:
        (gc.enable if was else gc.disable)()
