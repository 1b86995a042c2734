"""Checks of the arguments of hooks, when they are made; of tokens and strings, when they are bound to a model."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np

from genctl.errors import ArgumentError
from genctl.kernels.records import I64
from genctl.vocabulary import Vocabulary

MOST = 1e30  # of numbers that logits are changed by: times any count they stay within single precision


def check_number(name: str, value: object) -> float:
    """The number, which is not NaN, and infinite or no larger than MOST."""
    if isinstance(value, bool) or not isinstance(value, float | int | np.floating | np.integer) or value != value:
        raise ArgumentError(f"{name} is {value!r}, it must be a number")
    size: Any = abs(value)  # of an integer that may be too large for a float
    if MOST < size < np.inf:
        raise ArgumentError(f"{name} is {value!r:.60}, which is too large for logits: at most {MOST:g}")
    return float(value)


def check_divisor(name: str, value: object, hint: str = "") -> None:
    """Finite, and large enough for logits to be divided by it."""
    if not 1 / MOST <= check_number(name, value) < np.inf:
        raise ArgumentError(f"{name} is {value}, it must be a finite number above 0, {1 / MOST:g} at least{hint}")


def check_finite(name: str, value: object) -> None:
    if not np.isfinite(check_number(name, value)):
        raise ArgumentError(f"{name} is {value}, it must be finite")


def check_within(name: str, value: object, least: float, most: float) -> None:
    if not least <= check_number(name, value) <= most:
        raise ArgumentError(f"{name} is {value}, it must be in [{least:g}, {most:g}]")


def check_share(name: str, value: object) -> None:
    if not 0 < check_number(name, value) <= 1:
        raise ArgumentError(f"{name} is {value}, it must be in (0, 1]")


def check_count(name: str, value: object, least: int = 1) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ArgumentError(f"{name} is {value!r}, it must be an integer of at least {least}")


def check_flag(name: str, value: object) -> None:
    if not isinstance(value, bool | np.bool_):
        raise ArgumentError(f"{name} is {value!r}, it must be True or False")


def ids_of(name: str, value: Any) -> tuple[int, ...]:
    """Token ids: one, or a list, set, array or tensor of them."""
    given = value.tolist() if hasattr(value, "tolist") else value
    ids = [given] if is_id(given) else given
    if isinstance(ids, str | bytes | Mapping) or not isinstance(ids, Collection) or not all(map(is_id, ids)):
        raise ArgumentError(f"{name} is {value!r}, it must be a token id or a list of token ids")
    return tuple(int(i) for i in ids)


def check_ids(name: str, ids: Iterable[int], vocabulary: Vocabulary) -> None:
    for i in ids:
        if not 0 <= i < len(vocabulary):
            raise ArgumentError(f"{name}: token {i} is outside the vocabulary of {len(vocabulary)} ids")


def is_id(given: object) -> TypeGuard[int | np.integer]:
    """An integer, which True is not."""
    return isinstance(given, int | np.integer) and not isinstance(given, bool)


def tokens_of(words: Sequence[str | int], vocabulary: Vocabulary) -> I64:
    """The ids of tokens: ids as they are, for a word all tokens whose bytes are exactly those of the word.

    Raises ArgumentError for a word that no token is, and an id that the vocabulary does not use.
    """
    found: set[int] = set()
    for word in words:
        ids = _spelling(word, vocabulary) if isinstance(word, str) else [int(word)]
        if not isinstance(word, str) and (not 0 <= word < len(vocabulary) or word in vocabulary.unused):
            raise ArgumentError(f"the model has no token {word}")
        if not ids:
            raise ArgumentError(
                f"no token of the model is exactly {word!r}\nhint: StringBias finds a string however it is spelled;"
                " a blank before a word belongs to it: ' wait' is another token than 'wait'"
            )
        found.update(ids)
    return np.array(sorted(found), np.int64)


def check_words(name: str, words: object, least: int = 1) -> None:
    """A list of words, so many at least."""
    if isinstance(words, str | bytes) or not isinstance(words, Sequence) or len(words) < least:
        raise ArgumentError(f"{name} is {words!r}, it must be a list of strings or token ids")
    for i, word in enumerate(words):
        check_word(f"{name}[{i}]", word)


def check_word(name: str, word: object) -> None:
    """A token id, or a string that is not empty."""
    if is_id(word):
        return
    if not isinstance(word, str) or not word:
        raise ArgumentError(f"{name} is {word!r}, it must be a string, not empty, or a token id")
    data_of(name, word)


def data_of(name: str, text: str) -> bytes:
    """The bytes of a string. Raises ArgumentError for half of a surrogate pair, which has none."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ArgumentError(f"{name} is {text!r}, which no bytes spell: {error.reason}") from error


def _spelling(word: str, vocabulary: Vocabulary) -> list[int]:
    data = data_of("a word", word)
    return [i for i, token in enumerate(vocabulary.tokens) if token == data and data]
