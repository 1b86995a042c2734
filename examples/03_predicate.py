"""Regex & python predicate, exactly: 32 particles, their posterior, and the evidence.

python examples/03_predicate.py
python examples/03_predicate.py --real
"""

import sys

import genctl


def palindrome(text: str, done: bool) -> bool:
    """Any prefix may become one; a finished text must be one."""
    return not done or text == text[::-1]


def likes_vowels(text: str, done: bool) -> float:
    """A log-weight in nats: each vowel makes a text e times as likely."""
    return float(sum(text.count(vowel) for vowel in "aeiou"))


lm = genctl.load() if "--real" in sys.argv else genctl.load("toy")
word = genctl.regex("[a-z]{3,6}")

for rule in (word, word & palindrome, word & palindrome & likes_vowels):
    g = lm.generate("anna saw ", rule, num_particles=64, max_new_tokens=6, seed=1)
    top = {text: round(weight, 3) for text, weight in g.posterior().most_common(4)}
    print(f"{rule!r}\n    posterior {top}\n    ESS {g.ess:.1f}, log evidence {g.log_evidence:.2f}")
