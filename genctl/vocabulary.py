"""Vocabularies: token ids and the exact bytes they stand for.

    vocabulary = Vocabulary((b"a", b"b", b"ab", b""), eos=frozenset({3}))
    b"".join(vocabulary.tokens[i] for i in (0, 1)) == vocabulary.tokens[2]

Every tokenizer users have is read into this one record by `Vocabulary.from_tokenizer`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """V tokens, V being the width of the model's logits.

    tokens[i]: the exact bytes that id i adds to the text; b"" for control tokens (begin, end, padding, chat marks)
        and for ids that no token has. Two ids may have the same bytes.
    eos: the ids that end a text; never empty.
    unused: ids that no token has (logits padded to a round width); they are never drawn.
    """

    tokens: tuple[bytes, ...]
    eos: frozenset[int]
    unused: frozenset[int] = field(default=frozenset())

    def __len__(self) -> int:
        return len(self.tokens)

    def join(self, ids: Iterable[int]) -> bytes:
        """The bytes of the tokens, one after the other."""
        return b"".join(self.tokens[i] for i in ids)
