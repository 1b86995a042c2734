"""Deterministic automata for expressions and grammars: subset construction over states and stacks.

    list_ = concat(Literal(b"["), optional(Call("list")), Literal(b"]"))
    automaton = GrammarAutomaton(Call("list"), {"list": list_})
    accepts(automaton, b"[[[]]]")                            # True

Any context-free grammar will do: ambiguous, left- and right-recursive, with empty rules and cycles. Without calls
and counted loops this is the ordinary lazy determinisation of an NFA. engine.py and kernels/configurations.py have
the construction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from genctl.automata.base import next_bytes
from genctl.automata.engine import Compiled, Engine
from genctl.automata.expressions import Expression, Grammar
from genctl.automata.lazy import LazyAutomaton
from genctl.kernels.records import Machine


class GrammarAutomaton:
    """The language of an expression over the named rules, O(1) a byte for deterministic grammars.

    lengths: fewest bytes of a text of each rule. notes: what the compiler has to say beside the automaton, as plain
    JSON; it is stored with it, and means nothing to the automaton itself. Raises ConstraintError for an undefined rule.
    """

    def __init__(self, start: Expression, rules: Mapping[str, Expression] | None = None) -> None:
        grammar = Grammar(start, rules or {})
        self._take(Compiled.of(start, grammar.rules), lambda: grammar)

    @classmethod
    def of(cls, compiled: Compiled, grammar: Callable[[], Grammar]) -> GrammarAutomaton:
        """What was compiled before; the grammar is asked for where the automaton becomes a part of a larger one."""
        automaton = cls.__new__(cls)
        automaton._take(compiled, grammar)
        return automaton

    def _take(self, compiled: Compiled, grammar: Callable[[], Grammar]) -> None:
        self._grammar = grammar
        self.notes: Mapping[str, Any] = {}
        engine = Engine(compiled)
        self.lengths = engine.lengths
        self._states: Engine | _Trimmed = engine if engine.exact else _Trimmed(engine)
        self.start = self._states.start

    @cached_property
    def grammar(self) -> Grammar:
        return self._grammar()

    def forget_grammar(self, grammar: Callable[[], Grammar]) -> None:
        """Let go of the grammar, most of what an automaton keeps, until it is asked for; then it is made anew."""
        vars(self).pop("grammar", None)
        self._grammar = grammar

    @property
    def generation(self) -> int:
        return self._states.generation

    @property
    def machine(self) -> Machine:
        return self._states.machine

    def extend(self, status: int) -> None:
        self._states.extend(status)

    def step(self, state: int, byte: int, /) -> int:
        return self._states.step(state, byte)

    def row(self, state: int, /) -> list[int]:
        return self._states.row(state)

    def accepts(self, state: int, /) -> bool:
        return self._states.accepts(state)

    def distance(self, state: int, /) -> int:
        return self._states.distance(state)

    def universal(self, state: int, /) -> bool:
        return self._states.universal(state)

    def expected(self, state: int) -> tuple[list[str], bytes]:
        """Names of the rules that may begin in a state, and the bytes that may come otherwise."""
        if self.engine is None:
            return [], next_bytes(self, state)
        return self.engine.expected(state, dict(zip(range(1, 1 + len(self.lengths)), self.lengths, strict=True)))

    @property
    def engine(self) -> Engine | None:
        """What builds the states, if they are all its own (without look-around)."""
        return self._states if isinstance(self._states, Engine) else None

    def __len__(self) -> int:
        """States built so far, the dead one included."""
        return len(self._states)


class _Trimmed(LazyAutomaton[int]):
    """Configurations with look-around, of which some cannot be completed; such ones are found by search."""

    exact_bound = False

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        super().__init__(engine.machine.classes, engine.start or None)

    def _successor(self, key: int, byte: int) -> int | None:
        return self._engine.step(key, byte) or None

    def _successors(self, key: int) -> list[int | None]:
        return [target or None for target in self._engine.row(key)]

    def _accepts(self, key: int) -> bool:
        return self._engine.accepts(key)

    def _bound(self, key: int) -> int:
        return self._engine.distance(key)

    def _universal(self, key: int) -> bool:
        return self._engine.universal(key)
