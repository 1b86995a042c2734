"""Whether token sequences begin what a tokenizer writes, asked of the tokenizer itself."""

from __future__ import annotations

from collections import deque
from functools import lru_cache
from itertools import combinations, product

import numpy as np

from genctl.constraints.base import unpack, words
from tests import naive

TEXTS = (
    "Hello, world! It's  a    test.\n\n  We'll see, DON'T you?\r\n",
    "def f(x):\n    return x ** 2  # 10%\n\n\nclass A:\n\tpass\n",
    "2026-11-22 1234567890   12 ٣٤ ½ x1y22  7\t8 ",
    "日本語のテキスト、한국어 🙂 👩\u200d💻 café naïve ſ K \u0301e\u0301 \u00a0 \u3000x",
    '{"key": ["v", 1.5, null],\n "url": "http://www.example.com/?a=b&c=%20"}   \n \n',
    "   \n\n \t\t x\n \n  y '' 's '' 'x <|im_en d|> <| < <|im_end ",
    "\u0301\u0302 'l'll' 'LL's 'ſ ａ１ \x00\x7f",
)
PIECES = ("a", "Ab", "the", "s", " ", "  ", "\n", "\r\n", "\t", "'", "'s", "'re", "'LL", "1", "234", "é", "日本", "、")
PIECES += ("🙂", "_", "--", "\u00a0", "\u0301", "ſ", "<|", "<|im_end|", "٣", "x", ".", '("', "\u3000", "ﬁ", "//", "K")


def encoding(tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False).ids


def run(constraint, ids, state=None):
    state = constraint.start() if state is None else state
    for i in ids:
        state = constraint.advance(state, i)
    return state


@lru_cache(maxsize=4)
def puts_blank(tokenizer) -> bool:
    """Whether the tokenizer may put a blank before a text."""
    return any(name in tokenizer.to_str() for name in ('"Prepend"', '"first"', '"always"', '"add_prefix_space":true'))


def spelled_by(vocabulary, tokenizer, ids) -> list[bytes]:
    """The texts that may have these tokens: what they join to, without blanks that may not be in the text.

    Such a blank is put before the text, or behind an added token.
    """
    starts = [()]
    if puts_blank(tokenizer):
        added = tokenizer.get_added_tokens_decoder()
        parts = [i for i, token in enumerate(ids) if i == 0 or ids[i - 1] in added]
        blanks = [i for i in parts if vocabulary.tokens[ids[i]][:1] == b" "]
        starts = [set(kept) for size in range(len(blanks) + 1) for kept in combinations(blanks, size)]
    return [b"".join(vocabulary.tokens[t][i in without :] for i, t in enumerate(ids)) for without in starts]


def is_whole(vocabulary, tokenizer, ids) -> bool:
    """Whether the tokenizer writes just these for a text that they spell."""
    for text in spelled_by(vocabulary, tokenizer, ids):
        try:
            if encoding(tokenizer, text.decode()) == list(ids):
                return True
        except UnicodeDecodeError:
            return False
    return False


def finish(constraint, vocabulary, state) -> list[int] | None:
    """Fewest more tokens after which the text may end."""
    seen, waiting = {state}, deque([(state, [])])
    while waiting:
        state, path = waiting.popleft()
        if constraint.complete(state):
            return path
        mask = unpack(constraint.candidates(state), len(vocabulary))
        for token in np.flatnonzero(mask).tolist():
            after = constraint.advance(state, token)
            if after not in seen:
                seen.add(after)
                waiting.append((after, [*path, token]))
    return None


def check_accepted(constraint, vocabulary, tokenizer, ids) -> None:
    """An accepted sequence can be finished so that the tokenizer writes it."""
    state = run(constraint, ids)
    assert state
    assert constraint.complete(state) == is_whole(vocabulary, tokenizer, ids)
    rest = finish(constraint, vocabulary, state)
    assert rest is not None, ids
    assert is_whole(vocabulary, tokenizer, [*ids, *rest]), (ids, rest)


def check_text(constraint, vocabulary, tokenizer, text) -> None:
    """No beginning of the encoding of a text is refused, if it has all the bytes and no special tokens."""
    ids = encoding(tokenizer, text)
    if text.encode() not in spelled_by(vocabulary, tokenizer, ids):
        return
    state = constraint.start()
    for i in ids:
        assert constraint.allows(state, i), (text, ids, i)
        state = constraint.advance(state, i)
    assert constraint.complete(state)


def random_texts(rng, count):
    return ["".join(rng.choice(PIECES, rng.integers(1, 9))) for _ in range(count)]


def random_sequences(rng, vocabulary, tokenizer, count):
    """Token sequences of four kinds: any tokens, texts cut by chance, encodings with a change, pairs of pieces."""
    readable = [i for i, token in enumerate(vocabulary.tokens) if token]
    by_bytes = {vocabulary.tokens[i]: i for i in readable}
    for text in random_texts(rng, count // 4):
        yield rng.choice(readable, rng.integers(1, 4)).tolist()
        ids = encoding(tokenizer, text)
        at = rng.integers(len(ids))
        yield [i for i in [*ids[:at], int(rng.choice(readable)), *ids[at:]] if vocabulary.tokens[i]]
        yield [i for part in (text[: len(text) // 2], text[len(text) // 2 :]) for i in encoding(tokenizer, part)]
        data, cut = text.encode(), []
        while data:
            sizes = [size for size in range(1, 9) if data[:size] in by_bytes]
            if not sizes:
                break
            size = int(rng.choice(sizes))
            cut.append(by_bytes[data[:size]])
            data = data[size:]
        yield cut


FILLS = [bytes(fill) for size in range(4) for fill in product((0x80, 0x8C, 0xA5, 0xBF), repeat=size)]
MORE = ("", " ", "a", "s", "1", "\n", "'", "!", "é", "日", " a", " 1", "  ", "\n\n", "re", "ll", "the", "\u0301")
MORE += ("🙂", "22", "x", "<")


def has_witness(vocabulary, tokenizer, ids) -> bool:
    """Whether some text of many that go on from the tokens is encoded with these tokens first."""
    return any(_goes_on(tokenizer, data, ids) for data in spelled_by(vocabulary, tokenizer, ids))


def _goes_on(tokenizer, data, ids) -> bool:
    for fill in FILLS:
        try:
            text = (data + fill).decode()
        except UnicodeDecodeError:
            continue
        if any(encoding(tokenizer, text + more)[: len(ids)] == ids for more in MORE):
            return True
        if not fill:
            return False
    return False


def check_sequences(constraint, vocabulary, tokenizer, sequences) -> tuple[int, int]:
    accepted = refused = 0
    for ids in sequences:
        if run(constraint, ids):
            accepted += 1
            check_accepted(constraint, vocabulary, tokenizer, ids)
        else:
            refused += 1
            assert not has_witness(vocabulary, tokenizer, ids), (ids, [vocabulary.tokens[i] for i in ids])
    return accepted, refused


def check_all_accepted(constraint, vocabulary, tokenizer, length, kept=None):
    """The first 400 accepted sequences of each length begin encodings. kept: of each length go on; None: all."""
    accepted = [()]
    for _ in range(length):
        longer = [(*ids, token) for ids in accepted for token in range(len(vocabulary))]
        accepted = [ids for ids in longer if run(constraint, ids)][:kept]
        for ids in accepted[:400]:
            check_accepted(constraint, vocabulary, tokenizer, ids)


def check_masks(constraint, size):
    """In the states of the first three tokens, 300 of them, the mask is what is allowed, and no bit more."""
    states = {constraint.start()}
    for _ in range(3):
        states |= {constraint.advance(state, token) for state in states for token in range(size)}
    for state in sorted(states)[:300]:
        packed = np.full(words(size), 0xFFFFFFFF, np.uint32)
        constraint.mask(state, packed)
        np.testing.assert_array_equal(unpack(packed, size), naive.mask(constraint, state, size))
        assert not unpack(packed, 32 * words(size))[size:].any()
