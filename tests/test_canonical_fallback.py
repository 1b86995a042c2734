"""Prefix-canonical token sequences of tokenizers as in SentencePiece: characters are merged, or spelled by their bytes.

The laws are those of test_canonical.py. The texts do not have U+2581, which these tokenizers write for a blank.
"""

from __future__ import annotations

import json
from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from genctl.constraints.base import unpack, words
from genctl.constraints.canonical import CanonicalConstraint
from genctl.vocabulary import SPACE, Vocabulary, _read
from tests import naive
from tests.encodings import (
    check_accepted,
    check_text,
    encoding,
    run,
)

tokenizers = pytest.importorskip("tokenizers")

REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
PREPEND = {"type": "Prepend", "prepend": SPACE}
BOTH = {"type": "Sequence", "normalizers": [PREPEND, REPLACE]}
BACK = {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}
DECODER = {"type": "Sequence", "decoders": [BACK, {"type": "ByteFallback"}, {"type": "Fuse"}]}
SPLIT = {"type": "Split", "behavior": "Isolated", "invert": False}
GEMMA = {**SPLIT, "pattern": {"String": " "}, "behavior": "MergedWithPrevious"}


def metaspace(scheme, split):
    return {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": split}


# Normalizer and pre-tokenizer.
WAYS = {
    "Llama 2": (BOTH, None),
    "Llama 2, in the other order": ({"type": "Sequence", "normalizers": [REPLACE, PREPEND]}, None),
    "Gemma 3": (REPLACE, GEMMA),
    "nothing but blanks replaced": (REPLACE, None),
    "Metaspace first": (None, metaspace("first", False)),
    "Metaspace first, words": (None, metaspace("first", True)),
    "Metaspace always": (None, metaspace("always", False)),
    "Metaspace always, words": (None, metaspace("always", True)),
    "Metaspace never": (None, metaspace("never", False)),
    "Metaspace never, words": (None, metaspace("never", True)),
    "prepended, then words": (BOTH, metaspace("always", True)),
    "replaced, then words": (REPLACE, metaspace("first", True)),
    "digits": (BOTH, {"type": "Digits", "individual_digits": True}),
    "patterns that see U+2581": (REPLACE, {**SPLIT, "pattern": {"Regex": rf"{SPACE}?[ab]+|\s+|{SPACE}(?!1)"}}),
}


def build(tokens, merges, way=(BOTH, None), fallback=True, added=()):
    """A tokenizer of these pieces (id by place), merges of them, and added tokens (content, special, normalized)."""
    vocab = {token: i for i, token in enumerate(tokens)}
    listed, free = [], len(tokens)
    for content, special, normalized in added:
        kind = {"content": content, "special": special, "normalized": normalized}
        listed.append(kind | {"id": vocab.get(content, free), "single_word": False, "lstrip": False, "rstrip": False})
        free += content not in vocab
    model = {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None}
    model |= {"end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": fallback, "ignore_merges": False}
    model |= {"vocab": vocab, "merges": [list(pair) for pair in merges]}
    listed.sort(key=lambda one: one["id"])
    spec = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": listed, "normalizer": way[0]}
    spec |= {"pre_tokenizer": way[1], "post_processor": None, "decoder": DECODER, "model": model}
    return tokenizers.Tokenizer.from_str(json.dumps(spec))


def vocabulary_of(tokenizer) -> Vocabulary:
    """Its vocabulary as it is read, with an end-of-text token behind."""
    found = _read(tokenizer).tokens
    return Vocabulary((*(found[i] for i in range(len(found))), b""), frozenset({len(found)}))


def byte_pieces(text: str) -> list[str]:
    return [f"<0x{byte:02X}>" for byte in text.encode()]


# -- small tokenizers, by enumeration

STRAYS = (" ", " a", "<0x0a>", "<0x20>", "<0xE2>", "aé", "日1")
LETTERS = ("a", "b", " ", "1", "\n", "é", "è", "日", "本", "🙂")
ADDED = ("ab", "a b", "b1", "1", "aab", "ba", SPACE * 2, "a" + SPACE, "\n", "\n\n", "é", " a", "b ", "日")


@st.composite
def small_tokenizers(draw):
    way = WAYS[draw(st.sampled_from(sorted(WAYS)))]
    others = draw(st.lists(st.sampled_from([c for c in LETTERS if c != " "]), min_size=1, max_size=2, unique=True))
    letters = [" ", *others]
    own = draw(st.lists(st.sampled_from([SPACE, *others]), min_size=1, unique=True))
    pieces = sorted(set(own))
    merges = []
    for _ in range(draw(st.integers(0, 8))):
        left, right = draw(st.sampled_from(pieces)), draw(st.sampled_from(pieces))
        if len(left + right) <= 4 and (left, right) not in merges:
            merges.append((left, right))
            pieces += [left + right] if left + right not in pieces else []
    merges = draw(st.permutations(merges)) if draw(st.booleans()) else merges
    spelled = sorted({piece for letter in others for piece in byte_pieces(letter)})
    if draw(st.integers(0, 3)) == 0:
        spelled.remove(draw(st.sampled_from(spelled)))
    strays = draw(st.lists(st.sampled_from(STRAYS), unique=True, max_size=2))
    tokens = ["<unk>", *pieces, *(piece for piece in spelled + strays if piece not in pieces)]
    chosen = draw(st.lists(st.sampled_from(ADDED), max_size=2, unique=True))
    added = [(content, draw(st.booleans()), draw(st.booleans())) for content in chosen]
    tokenizer = build(tokens, merges, way, draw(st.integers(0, 4)) > 0, added)
    assume(CanonicalConstraint.why_not(tokenizer) is None)
    return tokenizer, vocabulary_of(tokenizer), letters


def loses_blanks(tokenizer, ids) -> bool:
    """Whether one of the tokens is an added one that is found in another form than it has."""
    added = {i: token for i, token in tokenizer.get_added_tokens_decoder().items() if token.normalized}
    return any(
        tokenizer.normalizer.normalize_str(added[i].content) != added[i].content.replace(" ", SPACE)
        for i in ids
        if i in added and tokenizer.normalizer
    )


@given(small_tokenizers())
def test_no_beginning_of_an_encoding_is_refused(made):
    tokenizer, vocabulary, letters = made
    constraint = CanonicalConstraint(vocabulary, tokenizer)
    for size in range(6):
        for text in map("".join, product(letters, repeat=size)):
            if not loses_blanks(tokenizer, encoding(tokenizer, text)):
                check_text(constraint, vocabulary, tokenizer, text)


@given(small_tokenizers())
def test_every_sequence_that_is_accepted_begins_an_encoding(made):
    tokenizer, vocabulary, _ = made
    constraint = CanonicalConstraint(vocabulary, tokenizer)
    accepted = [()]
    for _ in range(4):
        longer = [(*ids, token) for ids in accepted for token in range(len(vocabulary))]
        accepted = [ids for ids in longer if run(constraint, ids)][:400]
        for ids in accepted:
            check_accepted(constraint, vocabulary, tokenizer, ids)


@given(small_tokenizers())
def test_the_mask_is_allows_of_every_token(made):
    tokenizer, vocabulary, _ = made
    constraint, size = CanonicalConstraint(vocabulary, tokenizer), len(vocabulary)
    states = {constraint.start()}
    for _ in range(3):
        states |= {constraint.advance(state, token) for state in states for token in range(size)}
    for state in sorted(states)[:300]:
        packed = np.full(words(size), 0xFFFFFFFF, np.uint32)
        constraint.mask(state, packed)
        np.testing.assert_array_equal(unpack(packed, size), naive.mask(constraint, state, size))
        assert not unpack(packed, 32 * words(size))[size:].any()
