"""What a model answers, as one array."""

from __future__ import annotations

from typing import Any

from genctl.kernels.records import F32
from genctl.models.base import Laws, host_logits


def scores_of(answer: Any) -> F32:
    """(N, V): the logits, or the scores where texts are weighted."""
    return host_logits(answer.scores if isinstance(answer, Laws) else answer)
