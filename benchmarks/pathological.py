"""Rules that are made to hurt: milliseconds to compile, microseconds a byte, milliseconds a mask, megabytes.

    python benchmarks/pathological.py --only recursion --json results.json

Each case works in a process of its own, is ended at a limit of time or of memory, and tells what it finished before.
What matters is that no line is far out: a rule is enforced at a fair price, or refused with a reason.
"""

from __future__ import annotations

import argparse
import gc
import json
import pickle
import random
import select
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

STATES = 50  # along the text, at which masks are made
ALPHABET = string.ascii_lowercase


class Case(NamedTuple):
    """What is compiled (returns an automaton) and a text of its language."""

    build: Callable[[], Any]
    text: bytes


# -- how rules are written


def regex(pattern: str) -> Callable[[], Any]:
    def build() -> Any:
        from genctl.compilers.regex import compile_regex

        return compile_regex(pattern)

    return build


def schema(document: Any) -> Callable[[], Any]:
    source = document if isinstance(document, str) else json.dumps(document)

    def build() -> Any:
        from genctl.compilers.json_schema import compile_json_schema

        return compile_json_schema(source)

    return build


def grammar(**rules: list[list[str]]) -> Callable[[], Any]:
    """Rules as lists of alternatives; a name of a rule calls it, anything else is literal. It starts at `s`."""

    def build() -> Any:
        from genctl.automata.expressions import Call, Literal, concat, union
        from genctl.automata.pushdown import GrammarAutomaton

        def part(word: str) -> Any:
            return Call(word) if word in rules else Literal(word.encode())

        made = {name: union(*(concat(*map(part, way)) for way in ways)) for name, ways in rules.items()}
        return GrammarAutomaton(Call("s"), made)

    return build


def compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


# -- the cases


def words(count: int) -> list[str]:
    """Different words with common beginnings."""
    rng = random.Random(0)
    found: dict[str, None] = {}
    while len(found) < count:
        found["".join(rng.choices(ALPHABET, k=rng.randint(3, 12)))] = None
    return list(found)


def nested(depth: int) -> dict[str, Any]:
    """Arrays in arrays, each level a schema of its own."""
    document: dict[str, Any] = {"type": "integer"}
    for _ in range(depth):
        document = {"type": "array", "items": document}
    return document


def many_rules(count: int) -> dict[str, list[list[str]]]:
    """Records of eight long names, each of which leads on to another record: about 600 bytes a rule."""
    rng = random.Random(0)
    names = ["s", *(f"r{i}" for i in range(1, count))]

    def record(number: int) -> list[list[str]]:
        fields = [f'"{"".join(rng.choices(ALPHABET, k=40))}_{number}_{i}":' for i in range(8)]
        return [["{", *(fields[i], names[rng.randrange(count)], ",")[:3], "null}"] for i in range(8)] + [["{}"]]

    return {name: record(number) for number, name in enumerate(names)}


def leftmost(rules: Mapping[str, list[list[str]]], depth: int) -> bytes:
    """The text that takes the first way `depth` times, and the last one then."""
    parts: list[str] = []
    work = [("s", depth)]
    while work:
        word, left = work.pop()
        if word in rules:
            work.extend((inner, left - 1) for inner in reversed(rules[word][0 if left > 0 else -1]))
        else:
            parts.append(word)
    return "".join(parts).encode()


def many_definitions(count: int) -> dict[str, Any]:
    """Objects of 30 properties, each another definition or null: about 3 kB a definition."""
    rng = random.Random(0)
    names = words(30)

    def place(number: int) -> dict[str, Any]:
        either = [{"$ref": f"#/$defs/d{rng.randrange(count)}"}, {"type": "null"}]
        return {"description": f"what stands at place {number}", "anyOf": either}

    def definition(number: int) -> dict[str, Any]:
        properties = {f"{name}_{number}": place(number) for name in names}
        return {"type": "object", "properties": properties, "additionalProperties": False}

    return {"$ref": "#/$defs/d0", "$defs": {f"d{n}": definition(n) for n in range(count)}}


def along(document: Mapping[str, Any], depth: int) -> bytes:
    """A text that goes through the first property of each definition."""
    name, parts = "d0", []
    for _ in range(depth):
        first, place = next(iter(document["$defs"][name]["properties"].items()))
        parts.append(f'{{"{first}":')
        name = place["anyOf"][0]["$ref"].rpartition("/")[2]
    return ("".join(parts) + "null" + "}" * depth).encode()


def options(count: int) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {f"option_{i}": {"type": "integer"} for i in range(count)},
        "additionalProperties": False,
    }


LONG = 100_000  # bytes of a long text
LITERAL = "".join(random.Random(1).choices(ALPHABET, k=1_000_000))
WORDS = words(10_000)
RULES = many_rules(5_000)
DEFINITIONS = many_definitions(1_000)
CASES: dict[str, Callable[[], Case]] = {
    "((a*)*)*b": lambda: Case(regex("((a*)*)*b"), b"a" * LONG + b"b"),
    "(a|a)*": lambda: Case(regex("(a|a)*"), b"a" * LONG),
    "(a|aa)*": lambda: Case(regex("(a|aa)*"), b"a" * LONG),
    "(a?){1000}a{1000}": lambda: Case(regex("(a?){1000}a{1000}"), b"a" * 1500),
    ".{0,10000}": lambda: Case(regex(".{0,10000}"), b"x" * 10_000),
    "(?:.{0,1000}){0,1000}": lambda: Case(regex("(?:.{0,1000}){0,1000}"), b"x" * LONG),
    "(a|b)*a(a|b){20}": lambda: Case(
        regex("(a|b)*a(a|b){20}"), bytes(random.Random(2).choices(b"ab", k=10_000)) + b"a" * 21
    ),
    "26 look-aheads": lambda: Case(regex("".join(f"(?=.*{c})" for c in ALPHABET) + ".*"), ALPHABET.encode() * 1_000),
    r".*(?<=\bfoo)bar": lambda: Case(regex(r".*(?<=\bfoo)bar"), b"a foo " * (LONG // 6) + b"foobar"),
    "literal of 1 MB": lambda: Case(regex(LITERAL), LITERAL.encode()),
    "10,000 words, regex": lambda: Case(regex("(?:" + "|".join(WORDS) + " )*"), (WORDS[-1] + " ").encode() * 5_000),
    "10,000 words, JSON": lambda: Case(schema({"type": "array", "items": {"enum": WORDS}}), compact(WORDS)),
    "200 nested groups": lambda: Case(regex("(?:x" * 200 + "a" + ")*" * 200), b"x" * 200 + b"a"),
    "200 nested arrays": lambda: Case(schema(nested(200)), b"[" * 200 + b"]" * 200),
    "arrays by recursion": lambda: Case(
        schema({"type": "array", "items": {"$ref": "#"}}), b"[" * 10_000 + b"]" * 10_000
    ),
    "brackets by recursion": lambda: Case(grammar(s=[["(", "s", ")"], [""]]), b"(" * (LONG // 2) + b")" * (LONG // 2)),
    "right recursion": lambda: Case(grammar(s=[["a", "s"], ["a"]]), b"a" * LONG),
    "left recursion": lambda: Case(grammar(s=[["s", "a"], ["a"]]), b"a" * LONG),
    "left recursion, hidden": lambda: Case(grammar(s=[["e", "s", "a"], ["a"]], e=[["b"], [""]]), b"a" * LONG),
    "sums of products": lambda: Case(
        grammar(
            s=[["s", "+", "t"], ["t"]],
            t=[["t", "*", "f"], ["f"]],
            f=[["(", "s", ")"], ["1"], ["x"]],
        ),
        b"(1+x*x)*" * (LONG // 8) + b"x",
    ),
    "S: S S | a": lambda: Case(grammar(s=[["s", "s"], ["a"]]), b"a" * 2_000),
    "S: S S S | S S | a": lambda: Case(grammar(s=[["s", "s", "s"], ["s", "s"], ["a"]]), b"a" * 2_000),
    "palindromes": lambda: Case(grammar(s=[["a", "s", "a"], ["b", "s", "b"], [""]]), b"ab" * 500 + b"ba" * 500),
    "500 rules at once": lambda: Case(
        grammar(s=[[f"r{i}"] for i in range(500)], **{f"r{i}": [["a", f"r{i}"], [f"b{i}"]] for i in range(500)}),
        b"a" * 10_000 + b"b499",
    ),
    "5,000 rules, 3 MB": lambda: Case(grammar(**RULES), leftmost(RULES, 1_000)),
    "1,000 definitions, 3 MB": lambda: Case(schema(DEFINITIONS), along(DEFINITIONS, 1_000)),
    "1,000 optional properties": lambda: Case(
        schema(options(1_000)), compact({f"option_{i}": i for i in range(0, 1_000, 2)})
    ),
    "text of at most 1,000,000": lambda: Case(
        schema({"type": "string", "maxLength": 1_000_000}), b'"' + b"x" * LONG + b'"'
    ),
    "100 patterns of keys": lambda: Case(
        schema({"patternProperties": {f"^{w}.*[0-9]$": {"type": "integer"} for w in WORDS[:100]}}),
        compact({f"{w}{i}": i for i, w in enumerate(WORDS[:100])}),
    ),
}


# -- inside the process of a case


def work(name: str, vocabulary_file: str) -> None:
    """Writes a line of JSON behind each stage."""
    with open(vocabulary_file, "rb") as file:
        tokens, eos = pickle.load(file)
    from genctl import ConstraintError, Vocabulary

    vocabulary = Vocabulary(tokens, eos)
    for warm in (regex("[a-z]+(?:x|y)"), grammar(s=[["(", "s", ")"], [""]])):
        masks(warm(), vocabulary, [1])
    case = CASES[name]()
    gc.collect()
    base = resident("VmRSS")
    with open("/proc/self/clear_refs", "w") as peak:
        peak.write("5")  # the peak starts anew
    begun = time.perf_counter()
    try:
        automaton = case.build()
    except ConstraintError as error:
        tell(result="refused: " + str(error).partition("\n")[0], compile_ms=1e3 * (time.perf_counter() - begun))
        return
    tell(result="", compile_ms=1e3 * (time.perf_counter() - begun), peak_mb=resident("VmHWM") - base)
    begun = time.perf_counter()
    states = read(automaton, case.text)
    tell(
        result="" if automaton.accepts(states[-1]) else "the text is not accepted",
        us_a_byte=1e6 * (time.perf_counter() - begun) / len(case.text),
        bytes=len(case.text),
        peak_mb=resident("VmHWM") - base,
    )
    chosen = {states[int(at)] for at in np.linspace(0, len(case.text), STATES)}
    took = 1e3 * np.array(masks(automaton, vocabulary, sorted(chosen)))
    tell(mask_ms=float(took.mean()), mask_max_ms=float(took.max()), peak_mb=resident("VmHWM") - base)


def read(automaton: Any, text: bytes) -> list[int]:
    """The state before each byte, and the last."""
    states = [automaton.start]
    for byte in text:
        states.append(automaton.step(states[-1], byte))
    return states


def masks(automaton: Any, vocabulary: Any, states: list[int]) -> list[float]:
    """Seconds that the mask of each state takes."""
    from genctl.constraints.automaton import AutomatonConstraint

    constraint = AutomatonConstraint(automaton, vocabulary)
    out = np.zeros((len(vocabulary) + 31) // 32, np.uint32)
    took = []
    for state in states:
        begun = time.perf_counter()
        constraint.mask(state, out)
        took.append(time.perf_counter() - begun)
    return took


def tell(**found: object) -> None:
    print(json.dumps(found), flush=True)


def resident(field: str, process: str | int = "self") -> float:
    """VmRSS or VmHWM, MB (Linux); 0 for a process that has ended."""
    try:
        with open(f"/proc/{process}/status") as file:
            return next((int(line.split()[1]) / 1024 for line in file if line.startswith(field)), 0.0)
    except (FileNotFoundError, ProcessLookupError):
        return 0.0


# -- outside of it


def run(name: str, vocabulary_file: str, seconds: float, megabytes: float) -> dict[str, Any]:
    """What the case told before it ended or was ended."""
    command = [sys.executable, __file__, "--case", name, "--words", vocabulary_file]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    found: dict[str, Any] = {}
    deadline = time.monotonic() + seconds
    ended = ""
    while not ended:
        if select.select([process.stdout], [], [], 0.02)[0]:
            line = process.stdout.readline()
            if not line:
                break
            found |= json.loads(line)
        elif time.monotonic() > deadline:
            ended = f"more than {seconds:.0f} s"
        elif resident("VmRSS", process.pid) > megabytes:
            ended = f"more than {megabytes:.0f} MB"
    if ended:
        process.kill()
    last = process.stderr.read().strip().rpartition("\n")[2]
    if process.wait() and not ended:
        ended = f"failed: {last}"
    stage = "compile" if "compile_ms" not in found else "read" if "us_a_byte" not in found else "mask"
    if ended:
        found["result"] = f"{ended} to {stage}" if ended.startswith("more") else f"{ended} ({stage})"
    return found


COLUMNS = {
    "result": "",
    "compile_ms": "compile ms",
    "bytes": "bytes",
    "us_a_byte": "us a byte",
    "mask_ms": "mask ms",
    "mask_max_ms": "worst",
    "peak_mb": "MB",
}


def rows(results: Iterator[tuple[str, dict[str, Any]]]) -> Iterator[str]:
    yield f"| case | {' | '.join(COLUMNS.values())} |"
    yield "|:--|:--|" + "--:|" * (len(COLUMNS) - 1)
    for name, found in results:
        shown = ("" if column not in found else cell(found[column]) for column in COLUMNS)
        yield f"| {name.replace('|', chr(92) + '|')} | {' | '.join(shown)} |"


def cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.2f}" if value < 10 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def smollm2() -> tuple[tuple[bytes, ...], frozenset[int]]:
    from transformers import AutoTokenizer

    from genctl.models.gguf import converted
    from genctl.models.packaged import packaged_models
    from genctl.vocabulary import Vocabulary

    tokenizer = AutoTokenizer.from_pretrained(converted(packaged_models()["SmolLM2-135M-Instruct"]))
    vocabulary = Vocabulary.from_tokenizer(tokenizer)
    return vocabulary.tokens, vocabulary.eos


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--seconds", type=float, default=60, help="limit for a case, loading included")
    parser.add_argument("--megabytes", type=float, default=1000, help="limit for a case, loading included")
    parser.add_argument("--json", help="file for the results")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--words", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        work(options.case, options.words)
        return
    with tempfile.NamedTemporaryFile() as file:
        pickle.dump(smollm2(), file)
        file.flush()
        names = [name for name in CASES if options.only in name]
        results = {}

        def each() -> Iterator[tuple[str, dict[str, Any]]]:
            for name in names:
                results[name] = run(name, file.name, options.seconds, options.megabytes)
                yield name, results[name]

        for line in rows(each()):
            print(line, flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
