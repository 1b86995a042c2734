"""Molecules in SMILES: the grammar and what it cannot say, which rings close, valences, aromatic systems.

    lm.generate(prompt, molecule(), num_particles=5)

partialsmiles reads beginnings of SMILES; rdkit, which reads whole ones only, is the judge and gives the score.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import partialsmiles

import genctl
from benchmarks.domains import Counted, Domain, Example, chat
from genctl.constraints.rules import Rule

# Well-known drugs with at most 33 characters.
DRUGS = """
CC(=O)Oc1ccccc1C(=O)O CC(=O)Nc1ccc(O)cc1 CN1C=NC2=C1C(=O)N(C)C(=O)N2C CC(C)Cc1ccc(cc1)C(C)C(=O)O
CC(CS)C(=O)N1CCCC1C(=O)O NC(=O)c1cnccn1 NNC(=O)c1ccncc1 CC(N)Cc1ccccc1 CNC(C)C(O)c1ccccc1 NCCc1ccc(O)c(O)c1
CCN(CC)CC(=O)Nc1c(C)cccc1C CCOC(=O)c1ccc(N)cc1 CCN(CC)CCOC(=O)c1ccc(N)cc1 CN(C)C(=N)NC(=N)N CC(C)NCC(O)COc1cccc2ccccc12
CC(C)NCC(O)c1ccc(O)c(O)c1 CC(C)(C)NCC(O)c1ccc(O)c(CO)c1 NC(=O)N1c2ccccc2C=Cc2ccccc12 O=C1NC(=O)C(N1)(c1ccccc1)c1ccccc1
CCC1(CC)C(=O)NC(=O)NC1=O CCC1(C(=O)NC(=O)NC1=O)c1ccccc1 CCCC(CCC)C(=O)O CCC1(C)CC(=O)NC1=O NCC1(CC(=O)O)CCCCC1
CC(C)CC(CN)CC(=O)O CCC(C(N)=O)N1CCCC1=O Nc1ccc(cc1)S(N)(=O)=O Nc1ccc(cc1)S(=O)(=O)c1ccc(N)cc1 CN1CCCC1c1cccnc1
CC(=O)NC(CS)C(=O)O NC(Cc1ccc(O)c(O)c1)C(=O)O Cc1ncc([N+](=O)[O-])n1CCO CCC(=O)N(c1ccccc1)C1CCNCC1 CNCCC(Oc1ccccc1)c1ccccc1
CN(C)CCOC(c1ccccc1)c1ccccc1 CN(C)CCC=C1c2ccccc2CCc2ccccc12 COc1ccc2cc(ccc2c1)C(C)C(=O)O OC(=O)Cc1ccccc1Nc1c(Cl)cccc1Cl
CC12CCC(CC1)C(C)(C)O2 Clc1cccc(Cl)c1NC1=NCCN1 NC1=NC(=O)c2ncn(COCCO)c2N1 Fc1c[nH]c(=O)[nH]c1=O S=c1[nH]cnc2[nH]cnc12
O=c1[nH]cnc2[nH]ncc12 CCCc1cc(=O)[nH]c(=S)[nH]1 CC(O)(P(O)(O)=O)P(O)(O)=O NCCCC(O)(P(O)(O)=O)P(O)(O)=O OCC(O)C(O)C(O)C(O)CO
NCCC(=O)O NC12CC3CC(CC(C3)C1)C2 CNC1(CCCCC1=O)c1ccccc1Cl CC(C)c1cccc(C(C)C)c1O
""".split()
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
