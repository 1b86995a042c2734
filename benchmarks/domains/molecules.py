"""Molecules in SMILES: the grammar and what it cannot say, which rings close, valences, aromatic systems.

    lm.generate(prompt, molecule(), num_particles=5)

partialsmiles reads beginnings of SMILES; rdkit, which reads whole ones only, is the judge and gives the score.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import partialsmiles

import genctl
from benchmarks.domains import Counted, Domain, Example, chat
from genctl.constraints.rules import Rule

DRUGS = (Path(__file__).parent / "drugs.smi").read_text("utf-8").split()  # well-known ones of at most 33 characters
QUESTION = "Write a drug-like molecule as a SMILES string."
SHOTS, LONGEST = 4, 22  # characters of a drug in a prompt: its molecules shall fit in few tokens


def possible(text: str, done: bool) -> bool:
    """Prefix oracle: can (done: does) a molecule with possible rings, valences and aromatic systems begin so?

    An atom in brackets is looked at when it is closed: partialsmiles refuses `[A`, but reads `[As]`.
    """
    shown = text if done else text[: text.rfind("[") + 1] if text.rfind("[") > text.rfind("]") else text
    try:
        partialsmiles.ParseSmiles(shown, partial=not done)
    except (partialsmiles.Error, IndexError):  # IndexError: the text ends within `%12`
        return False
    return True


@cache
def _grammar() -> Rule:
    return genctl.lark("smiles")


def molecule(oracle: Counted | None = None) -> Rule:
    """Texts of the SMILES grammar that are possible molecules."""
    return _grammar() & genctl.predicate(oracle or possible)


def is_molecule(text: str) -> bool:
    """Does rdkit read it?"""
    return bool(text) and _read(text) is not None


def drug_likeness(text: str) -> float:
    """The quantitative estimate of drug-likeness (Bickerton et al. 2012), from 0 to 1; 0 for what is no molecule."""
    from rdkit.Chem import QED

    molecule = _read(text) if text else None
    return 0.0 if molecule is None else float(QED.qed(molecule))


def _read(text: str) -> object:
    from rdkit import Chem, RDLogger

    RDLogger.DisableLog("rdApp.*")  # it complains on stderr about each text that it refuses
    return Chem.MolFromSmiles(text)


def examples(count: int, seed: int) -> Sequence[Example]:
    """Each with other drugs in its prompt."""
    rng, short = np.random.default_rng(seed), [drug for drug in DRUGS if len(drug) <= LONGEST]
    return [_example(i, rng.permutation(short)[:SHOTS].tolist()) for i in range(count)]


def _example(number: int, drugs: Sequence[str]) -> Example:
    oracle = Counted(possible)
    prompt = chat([(QUESTION, drug) for drug in drugs], QUESTION)
    return Example(f"molecule {number}", prompt, molecule(oracle), is_molecule, drug_likeness, oracle)


DOMAIN = Domain("molecules", examples, 32, "drug-likeness (QED, rdkit)")
