"""Compiled rules, read from bytes, from disk and from memory, are the ones that were compiled.

again = unpack(pack(automaton), make)                    # the same language, distances and masks
in_new_process("json", SCHEMAS["strings"])               # True: it read the file instead of compiling
"""

from __future__ import annotations

import gc
import json
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from threading import Thread
from types import FunctionType, ModuleType

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import genctl
from genctl.automata.base import Automaton, accepts
from genctl.automata.expressions import Call, Expression
from genctl.automata.pushdown import GrammarAutomaton
from genctl.automata.stored import pack, unpack
from genctl.compilers.grammar import compile_gbnf, compile_lark
from genctl.compilers.json_schema import compile_json_schema
from genctl.compilers.regex import compile_regex
from genctl.constraints import store
from genctl.constraints.automaton import AutomatonConstraint
from genctl.constraints.base import words
from genctl.constraints.rules import Language
from genctl.errors import GenctlWarning
from genctl.vocabulary import Vocabulary

LONG = ["ab", "aa", '","', '":', '{"', '"}', "12", "é", "true", "\\u00", "+1", "((", "zz9"]
VOCABULARY = Vocabulary([bytes([byte]) for byte in range(256)] + [text.encode() for text in LONG] + [b""], eos={269})

PEOPLE = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 90},
        "role": {"enum": ["user", "owner", "ünder\n"]},
        "code": {"type": "string", "pattern": "^[a-z]{2}[0-9]*$", "maxLength": 12},
        "size": {"type": "number", "minimum": -3, "maximum": 12.5},
        "friends": {"type": "array", "items": {"$ref": "#"}, "maxItems": 70},
    },
    "required": ["name"],
    "additionalProperties": {"type": "boolean"},
}
MANY = {"enum": [f"name {i} {i * i}" for i in range(3000)]}
LEFT = 'start: start "+" term | term\nterm: term "*" factor | factor\nfactor: /[0-9]+/ | "(" start ")"'
SLOW_PATTERN = r"(\w+\s){3,40}\w+@[\w.]{1,30}"

MAKERS: dict[str, Callable[[], GrammarAutomaton]] = {
    "people": lambda: compile_json_schema(PEOPLE),
    "compact": lambda: compile_json_schema(PEOPLE, whitespace="compact"),
    "anything": lambda: compile_json_schema(True),
    "integers": lambda: compile_json_schema({"type": "integer", "minimum": -12, "maximum": 130}),
    "date": lambda: compile_regex(r"\d{4}-[01]\d-[0-3]\d"),
    "words": lambda: compile_regex(SLOW_PATTERN),
    "nothing but the empty text": lambda: compile_regex(""),
    "left recursion": lambda: compile_lark(LEFT),
    "ambiguous": lambda: compile_lark('start: start start | "a" | "(" start ")" |'),
    "chess": lambda: compile_gbnf('root ::= [1-8] ". " move " " move "\\n"\nmove ::= [a-h] [1-8] | "O-O" "-O"?'),
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for each test, on disk and in memory."""
    monkeypatch.setenv("GENCTL_CACHE", str(tmp_path))
    monkeypatch.setattr(store, "_memory", store._Memory())
    return tmp_path / "constraints"


def refuse() -> GrammarAutomaton:
    raise AssertionError("it is compiled again")


def packed(automaton: Automaton) -> bytes:
    data = pack(automaton)
    assert data is not None
    return data


def assert_same(first: Automaton, second: Automaton, pairs: int = 400) -> None:
    """Walk both at once: the same bytes, ends and distances in each pair of states that is met."""
    seen, work = {(first.start, second.start)}, [(first.start, second.start)]
    for a, b in work:
        assert (first.accepts(a), first.distance(a)) == (second.accepts(b), second.distance(b))
        for byte in range(256):
            pair = first.step(a, byte), second.step(b, byte)
            assert (pair[0] == 0) == (pair[1] == 0)
            if pair not in seen and len(seen) < pairs:
                seen.add(pair)
                work.append(pair)


# -- bytes


@pytest.mark.parametrize("name", MAKERS)
def test_what_is_read_back_has_the_same_language_and_distances(name):
    made = MAKERS[name]()
    assert_same(made, unpack(packed(made), refuse))


@pytest.mark.parametrize("name", MAKERS)
def test_what_has_read_texts_is_stored_as_it_was_compiled(name):
    made = MAKERS[name]()
    assert_same(made, MAKERS[name]())
    assert_same(unpack(packed(made), refuse), MAKERS[name]())


@pytest.mark.parametrize("name", MAKERS)
def test_what_is_read_back_has_the_same_masks(name):
    made = MAKERS[name]()
    first = AutomatonConstraint(made, VOCABULARY)
    second = AutomatonConstraint(unpack(packed(made), refuse), VOCABULARY)
    masks = np.zeros((2, words(len(VOCABULARY))), np.uint32)
    seen, work = {(first.start(), second.start())}, [(first.start(), second.start())]
    for a, b in work:
        first.mask(a, masks[0])
        second.mask(b, masks[1])
        assert_array_equal(masks[0], masks[1])
        for token in range(len(VOCABULARY)):
            pair = first.advance(a, token), second.advance(b, token)
            if pair not in seen and len(seen) < 60:
                seen.add(pair)
                work.append(pair)


def test_equal_loops_of_different_rules_are_one_object_also_with_compiled_ones():
    def bodies(automaton: GrammarAutomaton) -> list[Expression]:
        assert automaton.engine is not None
        return list(automaton.engine.compiled.loop_bodies.values())

    made = [compile_json_schema({"type": "string", "maxLength": most}) for most in (70, 80)]
    found = [bodies(automaton) for automaton in (*made, *(unpack(packed(automaton), refuse) for automaton in made))]
    assert all(len(each) == 1 and each[0] is found[0][0] for each in found)
    own = [bodies(unpack(packed(compile_regex(f"[α-ω]{{{least},99}}")), refuse)) for least in (3, 4)]
    assert own[0][0] is own[1][0]


def test_what_cannot_be_stored_is_none():
    assert pack(compile_regex("[ab](?=.*a)[ab]{3}")) is None  # look-around
    assert pack((genctl.regex("[ab]+") & genctl.regex("[bc]+")).automaton) is None  # a lazy product
    taken = compile_lark('start: "if" NAME\nNAME: /[a-z]+/', keywords="reserved")  # a lazy product inside
    assert pack(taken) is None


def test_the_grammar_is_made_again_where_a_rule_becomes_a_part_of_another():
    made = MAKERS["left recursion"]()
    again = unpack(packed(made), lambda: MAKERS["left recursion"]().grammar)
    both = Language(again, "sums") + "=" + Language(made, "sums")
    assert both.accepts("1+2*3=(7)")
    assert not both.accepts("1+=2")


def calls_of(kept: object) -> int:
    """How many calls of rules can be reached from there."""
    work, seen, count = [kept], set[int](), 0
    while work:
        item = work.pop()
        if id(item) not in seen and not isinstance(item, type | ModuleType):
            seen.add(id(item))
            count += isinstance(item, Call)
            work += (item.__closure__ or ()) if isinstance(item, FunctionType) else gc.get_referents(item)
    return count


@pytest.mark.parametrize(
    ("schema", "text"),
    [(PEOPLE, '{"name":"x"}'), (json.dumps(PEOPLE), '{"name":"x"}'), (dict[str, list[int]], '{"a":[1]}')],
    ids=["object", "text", "type"],
)
def test_a_schema_lets_go_of_its_grammar_and_becomes_a_part_of_another_all_the_same(schema, text):
    rule = genctl.json(schema)
    kept = rule.automaton
    assert calls_of(vars(kept)) == calls_of(kept.engine.compiled.loop_bodies) < calls_of(kept.grammar)
    both = rule + "!" + rule
    assert both.accepts(f"{text}!{text}")
    assert not both.accepts(f"{text}!{text}!")


def test_what_was_warned_of_is_not_told_again_where_the_grammar_is_made_again():
    with pytest.warns(GenctlWarning, match="maxLenght"):
        rule = genctl.json({"type": "string", "maxLenght": 3})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (rule + "!").accepts('"abcd"!')


# -- on disk


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every rule is worth a file."""
    monkeypatch.setattr(store, "SLOW", 0.0)


@pytest.fixture
def new_process(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """What the memory holds is gone."""
    return lambda: monkeypatch.setattr(store, "_memory", store._Memory())


def test_what_was_made_slowly_is_read_by_the_next_process(folder, slow, new_process):
    made = store.compiled("key", MAKERS["people"])
    assert [file.name for file in files(folder)] == ["key"]
    new_process()
    again = store.compiled("key", refuse)
    assert again is not made
    assert_same(made, again)


PROBE = """
import sys
from genctl.constraints import notations, store
kind, content = sys.argv[1:]
store.unpack = lambda *arguments, unpack=store.unpack: print("read") or unpack(*arguments)
store.SLOW = 0
rule = getattr(notations, kind)(content)
print("lark" in sys.modules)
"""


@pytest.mark.parametrize(
    ("kind", "content"),
    [("json", json.dumps(PEOPLE)), ("regex", SLOW_PATTERN), ("lark", LEFT), ("lark", "sql"), ("gbnf", 'root ::= "a"')],
)
def test_a_second_process_reads_what_the_first_one_compiled(kind, content, folder):
    def run() -> list[str]:
        done = subprocess.run([sys.executable, "-c", PROBE, kind, content], capture_output=True, text=True, check=True)
        return done.stdout.split()

    assert run() == [str(kind == "lark")]
    assert len(files(folder)) == 1
    assert run() == ["read", "False"]


def test_two_processes_write_at_once(folder):
    command = [sys.executable, "-c", PROBE, "json", json.dumps(PEOPLE)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    (file,) = files(folder)
    assert store._read(file.name, refuse) is not None
    for process in processes:
        process.communicate()


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: data + b"\0",
        lambda data: data[:200] + bytes([data[200] ^ 1]) + data[201:],
        lambda data: bytes([data[0] ^ 1]) + data[1:],
        lambda data: b"PK\x03\x04 another program's file",
    ],
)
def test_a_file_that_is_damaged_or_foreign_is_made_again(damage, folder, slow, new_process):
    store.compiled("key", MAKERS["integers"])
    whole = (folder / "key").read_bytes()
    (folder / "key").write_bytes(damage(whole))
    new_process()
    assert_same(store.compiled("key", MAKERS["integers"]), MAKERS["integers"]())
    assert (folder / "key").read_bytes() == whole


def test_a_file_under_the_name_of_another_is_not_read(folder, slow, new_process):
    store.compiled("one", MAKERS["integers"])
    (folder / "one").rename(folder / "other")
    made = store.compiled("other", MAKERS["date"])
    assert accepts(made, b"2026-11-30")


def test_a_cache_that_cannot_be_written_is_no_cache(tmp_path, slow, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("GENCTL_CACHE", str(tmp_path / "file"))
    assert accepts(store.compiled("key", MAKERS["date"]), b"2026-11-30")


def test_what_is_made_fast_has_no_file(folder, monkeypatch):
    monkeypatch.setattr(store, "SLOW", 1000.0)
    store.compiled("key", MAKERS["date"])
    assert files(folder) == []


def test_the_oldest_files_go_first(folder, slow, monkeypatch):
    monkeypatch.setattr(store, "DISK_BYTES", 3 * (len(packed(MAKERS["integers"]())) + store._SEAL))
    for name in "abcde":
        store.compiled(name, MAKERS["integers"])
    assert [file.name for file in files(folder)] == ["c", "d", "e"]


def test_clearing_forgets_memory_and_disk(folder, slow):
    made = store.compiled("key", MAKERS["integers"])
    size = (folder / "key").stat().st_size
    assert store.clear() == size
    assert files(folder) == []
    assert store.compiled("key", MAKERS["integers"]) is not made


# -- keys


def test_what_is_compiled_beside_the_sources_does_not_change_their_fingerprint(tmp_path):
    (tmp_path / "a.py").write_text("pass")
    before = store.fingerprint(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    for name in ("a.cpython-311.pyc", "a.f-1.py311.nbi", "a.f-1.py311.1.nbc"):
        (tmp_path / "__pycache__" / name).write_bytes(b"x")
    assert store.fingerprint(tmp_path) == before
    (tmp_path / "a.py").write_text("...")
    assert store.fingerprint(tmp_path) != before


def test_the_key_tells_contents_and_versions_apart(monkeypatch):
    contents = [
        ("schema", {"a": 1, "b": 2}),
        ("schema", {"b": 2, "a": 1}),
        ("schema", {"a": 1, "b": 2.0}),
        ("schema", {"a": 1, "b": "2"}),
        ("text", {"a": 1, "b": 2}),
        ("schema", True),
        ("schema", 1),
    ]
    keys = {store.key(*content) for content in contents}
    for module, name, value in (genctl, "__version__", "9.9"), (store, "FORMAT", 99):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, value)
            store._versions.cache_clear()
            keys.add(store.key(*contents[0]))
    store._versions.cache_clear()
    assert len(keys) == len(contents) + 2
    assert store.key(*contents[0]) in keys


def test_code_that_is_edited_has_another_fingerprint(tmp_path):
    (tmp_path / "rules.py").write_text("A = 1")
    before = store.fingerprint(tmp_path)
    assert store.fingerprint(tmp_path) == before
    (tmp_path / "rules.py").write_text("A = 2")
    assert store.fingerprint(tmp_path) != before


def test_the_order_of_properties_makes_another_rule():
    properties = {"a": {"const": 1}, "b": {"const": 2}}
    texts = []
    for names in ("ab", "ba"):
        schema = {"properties": {name: properties[name] for name in names}, "required": ["a", "b"]}
        rule = genctl.json(schema, whitespace="compact")
        texts += [rule.accepts('{"a":1,"b":2}'), rule.accepts('{"b":2,"a":1}')]
    assert texts == [True, False, False, True]


def test_a_schema_that_its_owner_changes_afterwards_is_not_what_is_kept():
    schema = {"const": 1}
    first = genctl.json(schema)
    schema["const"] = 2
    assert not genctl.json(schema).accepts("1")
    assert genctl.json({"const": 1}).automaton is first.automaton
    assert (first + "!").accepts("1!")


def test_grammars_that_read_other_files_are_not_kept(tmp_path):
    grammar = tmp_path / "sums.lark"
    grammar.write_text('%import .names.NAME\nstart: NAME ("+" NAME)*')
    for names, accepted in ("[a-z]", True), ("[0-9]", False):
        (tmp_path / "names.lark").write_text(f"NAME: /{names}/")
        assert genctl.lark(grammar).accepts("x+y") is accepted
    own = "%import common.NUMBER\nstart: NUMBER"
    assert genctl.lark(own).automaton is genctl.lark(own).automaton
    (tmp_path / "common.lark").write_text("NUMBER: /[a-z]/")
    assert genctl.lark(own, import_paths=[tmp_path]).accepts("x")
    assert not genctl.lark(own).accepts("x")


def test_what_has_no_canonical_text_is_compiled_every_time():
    rules = [genctl.json({"const": Decimal("1.5")}) for _ in range(2)]
    assert rules[0].automaton is not rules[1].automaton
    assert rules[0].accepts("1.5")


@pytest.mark.parametrize("schema", [{"minimum": 10**5_000}, {"const": {"a": [10**5_000]}}])
def test_numbers_that_python_does_not_write_are_refused_with_their_place(schema):
    with pytest.raises(genctl.ConstraintError, match="digits"):
        genctl.json(schema)


def test_a_schema_that_is_nested_too_deep_is_refused():
    schema: dict[str, object] = {"type": "integer"}
    for _ in range(5_000):
        schema = {"type": "array", "items": schema}
    with pytest.raises(genctl.ConstraintError, match="levels deep"):
        genctl.json(schema)


def test_flags_beside_a_compiled_pattern_are_refused_also_when_the_pattern_is_known():
    pattern = re.compile("a")
    assert genctl.regex(pattern).accepts("a")
    with pytest.raises(genctl.ArgumentError):
        genctl.regex(pattern, re.IGNORECASE)


def test_warnings_are_told_every_time(slow, folder):
    for _ in range(3):
        with pytest.warns(GenctlWarning, match="maxLenght"):
            genctl.json({"type": "string", "maxLenght": 3})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        genctl.json({"type": "string", "maxLenght": 4})
    with pytest.warns(GenctlWarning, match="maxLenght"):
        genctl.json({"type": "string", "maxLenght": 4})
    assert files(folder) == []


def test_pythons_collector_is_left_as_it_was_also_behind_an_error():
    for before in (False, True):
        (gc.enable if before else gc.disable)()
        try:
            genctl.regex("[ab]{17}")
            with pytest.raises(genctl.ConstraintError):
                genctl.regex("[ab]{18}(")
            assert gc.isenabled() == before
        finally:
            gc.enable()


# -- in memory


def test_rules_that_were_warned_of_share_states_too():
    with pytest.warns(GenctlWarning, match="maxLenght"):
        rules = [genctl.json({"type": "string", "maxLenght": 5}) for _ in range(2)]
    assert rules[0].automaton is rules[1].automaton


def test_rules_with_the_same_content_share_states_and_masks():
    first, second = genctl.json(PEOPLE), genctl.json(dict(PEOPLE))
    assert first.automaton is second.automaton
    assert first.bind(VOCABULARY).constraint is second.bind(VOCABULARY).constraint  # each has checks of its own


def test_memory_keeps_the_rules_that_were_used_last(monkeypatch):
    monkeypatch.setattr(store, "MEMORY_ENTRIES", 3)
    kept = [store.compiled(name, MAKERS["date"]) for name in "abc"]
    assert store.compiled("a", refuse) is kept[0]
    store.compiled("d", MAKERS["date"])
    assert len(store._memory) == 3
    assert store.compiled("a", refuse) is kept[0]
    assert store.compiled("b", MAKERS["date"]) is not kept[1]


def test_memory_is_bounded_by_the_bytes_that_automata_have_grown_to(monkeypatch):
    made = store.compiled("key", MAKERS["words"])
    size = sum(array.nbytes for array in made.machine)
    monkeypatch.setattr(store, "MEMORY_BYTES", size)
    assert store.compiled("key", refuse) is made
    assert_same(made, MAKERS["words"](), pairs=4000)
    assert sum(array.nbytes for array in made.machine) > size
    assert store.compiled("key", refuse) is made
    assert len(store._memory) == 0


def test_threads_do_not_share_what_grows(folder):
    found: list[Automaton] = []
    threads = [Thread(target=lambda: found.append(store.compiled("key", MAKERS["date"]))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found.append(store.compiled("key", MAKERS["date"]))
    assert found[-1] is store.compiled("key", refuse)
    assert found[-1] not in found[:-1]
