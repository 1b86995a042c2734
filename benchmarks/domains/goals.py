"""Planning goals: a sentence says what shall hold, the answer says it in PDDL.

    lm.generate(prompt, goal(BLOCKS), num_particles=5)

The grammar of goals is written for a domain's predicates and objects. That a goal contradicts itself (a block on two
others) is beyond it: a prefix oracle refuses an atom as soon as nothing that it can become goes with those before it.
Tasks are drawn at random; their sentences and answers are made of the same atoms.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np

import genctl
from benchmarks.domains import Counted, Domain, Example, Oracle, chat
from genctl.constraints.rules import Rule

Atom = tuple[str, ...]  # predicate, objects
SHOTS = 3


@dataclass(frozen=True)
class Planning:
    """A planning domain with its objects.

    predicates: name -> types of its arguments. sentences: name -> what an atom says, with {0}, {1} for its objects.
    contradictory: can not all of these atoms hold at once? Whatever is added to such atoms, they cannot.
    """

    name: str
    objects: Mapping[str, Sequence[str]]
    predicates: Mapping[str, Sequence[str]]
    sentences: Mapping[str, str]
    contradictory: Callable[[frozenset[Atom]], bool]

    @cached_property
    def atoms(self) -> list[Atom]:
        """All that can be said."""
        return [
            (name, *arguments)
            for name, types in self.predicates.items()
            for arguments in product(*(self.objects[kind] for kind in types))
        ]

    @cached_property
    def language(self) -> Rule:
        return genctl.lark(grammar(self))

    def sentence(self, atoms: Sequence[Atom]) -> str:
        said = [self.sentences[name].format(*arguments) for name, *arguments in atoms]
        return "Goal: " + ", and ".join(said) + "."


# -- the domains


def _blocks_contradict(atoms: frozenset[Atom]) -> bool:
    """A block is at one place, on no block that carries another one or is clear, and not above itself."""
    places = [(block, under[0] if under else "table") for name, block, *under in atoms if name != "clear"]
    carrying = [under for _, under in places if under != "table"]
    below = dict(places)
    return (
        len(below) < len(places)
        or len(set(carrying)) < len(carrying)
        or any(("clear", block) in atoms for block in carrying)
        or any(_above_itself(below, block) for block in below)
    )


def _above_itself(below: Mapping[str, str], block: str) -> bool:
    at = block
    for _ in below:
        at = below.get(at, "table")
        if at == block:
            return True
    return False


def _gripper_contradicts(atoms: frozenset[Atom]) -> bool:
    """Robby and each ball are at one place; a gripper that is free carries nothing, another one a ball at most."""
    placed = ["robby" if name == "at-robby" else arguments[0] for name, *arguments in atoms if name != "free"]
    grippers = [arguments[-1] for name, *arguments in atoms if name in ("free", "carry")]
    return len(set(placed)) < len(placed) or len(set(grippers)) < len(grippers)


BLOCKS = Planning(
    "blocks",
    {"block": ["b1", "b2", "b3", "b4", "b5"]},
    {"on": ["block", "block"], "on-table": ["block"], "clear": ["block"]},
    {"on": "{0} is on top of {1}", "on-table": "{0} stands on the table", "clear": "nothing is on {0}"},
    _blocks_contradict,
)
GRIPPER = Planning(
    "gripper",
    {"ball": ["ball1", "ball2", "ball3"], "room": ["kitchen", "garden", "hall"], "gripper": ["left", "right"]},
    {"at": ["ball", "room"], "at-robby": ["room"], "carry": ["ball", "gripper"], "free": ["gripper"]},
    {
        "at": "{0} lies in the {1}",
        "at-robby": "the robot is in the {0}",
        "carry": "{0} is held by the {1} hand",
        "free": "the {0} hand is empty",
    },
    _gripper_contradicts,
)


# -- the rule


def grammar(domain: Planning) -> str:
    """Goals of the domain in Lark's notation: a conjunction of atoms, with single blanks."""
    atoms = [
        f'"({name}"' + "".join(f' " " {kind}' for kind in types) + ' ")"' for name, types in domain.predicates.items()
    ]
    kinds = [f"{kind}: " + " | ".join(f'"{name}"' for name in names) for kind, names in domain.objects.items()]
    return "\n".join(['start: "(:goal (and" (" " atom)+ "))"', "atom: " + " | ".join(atoms), *kinds])


ATOM = re.compile(r"\(([a-z0-9-]+(?: [a-z0-9-]+)*)\)")
BODY = re.compile(r"(?P<atoms>(?: \([a-z0-9 -]*\))*)(?:| | (?P<last>\([a-z0-9 -]*)|\){1,2})")  # so far


def spelled(atoms: Sequence[Atom]) -> str:
    return "(:goal (and" + "".join(f" ({' '.join(atom)})" for atom in atoms) + "))"


def parsed(text: str) -> frozenset[Atom] | None:
    """The atoms of a goal, whatever its blanks; None if it is none."""
    text = " ".join(text.split()).replace("( ", "(").replace(" )", ")")
    found = [tuple(atom.split(" ")) for atom in ATOM.findall(text)]
    blanks = re.sub(r"\)(?=\()", ") ", text)
    return frozenset(found) if found and blanks.replace("(and(", "(and (") == spelled(found) else None


def consistent(domain: Planning) -> Oracle:
    """Prefix oracle: does no atom contradict those before it, and can the last one still become such an atom?"""

    known = frozenset(domain.atoms)

    def consistent(text: str, done: bool) -> bool:
        body = BODY.fullmatch(text.partition("(and")[2])
        if body is None:
            return False
        atoms, last = frozenset(tuple(atom.split(" ")) for atom in ATOM.findall(body["atoms"])), body["last"]
        if not atoms <= known or domain.contradictory(atoms):
            return False
        if last is None or done:
            return last is None
        rest = [atom for atom in domain.atoms if f"({' '.join(atom)})".startswith(last)]
        return any(not domain.contradictory(atoms | {atom}) for atom in rest)

    return consistent


def goal(domain: Planning, oracle: Counted | None = None) -> Rule:
    """Goals of the domain that do not contradict themselves."""
    return domain.language & genctl.predicate(oracle or consistent(domain))


# -- the tasks


def draw(rng: np.random.Generator, domain: Planning, count: int) -> list[Atom]:
    """So many atoms that go together, in an order of their own."""
    atoms: list[Atom] = []
    for i in rng.permutation(len(domain.atoms)):
        atom = domain.atoms[i]
        if len(atoms) < count and not domain.contradictory(frozenset([*atoms, atom])):
            atoms.append(atom)
    return atoms


def examples(count: int, seed: int) -> Sequence[Example]:
    rng = np.random.default_rng(seed)
    return [_example(i, rng, (BLOCKS, GRIPPER)[i % 2]) for i in range(count)]


def _example(number: int, rng: np.random.Generator, domain: Planning) -> Example:
    *shots, task = [draw(rng, domain, int(rng.integers(2, 5))) for _ in range(SHOTS + 1)]
    prompt = chat([(domain.sentence(shot), spelled(shot)) for shot in shots], domain.sentence(task))
    oracle = Counted(consistent(domain))

    def valid(text: str) -> bool:
        atoms = parsed(text)
        return atoms is not None and atoms <= frozenset(domain.atoms) and not domain.contradictory(atoms)

    def score(text: str) -> float:
        return float(parsed(text) == frozenset(task))

    return Example(f"{domain.name} {number}", prompt, goal(domain, oracle), valid, score, oracle, spelled(task))


DOMAIN = Domain("goals", examples, 64, "equal goal")
