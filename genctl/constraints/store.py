"""Compiled rules, kept for the next call in memory and for the next process on disk.

    automaton = compiled(key("regex", pattern, flags), lambda: compile_regex(pattern, flags))
    constraint = bound(automaton, vocabulary)              # its masks are kept as long as the automaton is

What stands in the cache is what the compilers of this version made of exactly this content. Nothing depends on it: a
file that is missing, damaged or foreign is as good as none, and so is a folder that cannot be written.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import platform
import shutil
import sys
import tempfile
import unicodedata
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from importlib import import_module
from itertools import islice
from pathlib import Path
from threading import Lock, local
from time import perf_counter
from typing import Any

from genctl.automata.base import Automaton
from genctl.automata.expressions import Grammar
from genctl.automata.pushdown import GrammarAutomaton
from genctl.automata.stored import FORMAT, WORDS, pack, share, unpack
from genctl.compilers.characters import ALL, json_string, utf8
from genctl.compilers.json_schema.words import Names
from genctl.constraints.automaton import AutomatonConstraint
from genctl.errors import hearing, warn
from genctl.vocabulary import Vocabulary

MEMORY_ENTRIES = 64
MEMORY_BYTES = 24 * 2**20  # of arrays, which grow as texts are read
DISK_BYTES = 200 * 2**20
SLOW = 0.02  # seconds; what is made faster is not worth a file

WORDS["Names"] = Names
for encode in (json_string, utf8):
    share(encode(ALL))


def compiled(
    key: str | None, make: Callable[[], GrammarAutomaton], grammar: Callable[[], Grammar] | None = None
) -> Automaton:
    """What `make` returns, or what it returned for the same key (see `key`) before: then the states are shared.

    grammar: makes the grammar of the automaton, which is not kept then. What `make` warns of is told every time, and
    there is no file of such a rule. Raises what `make` raises.
    """
    if key is None:
        with _uncollected():
            return make()
    entry = _memory.get(key)
    if entry is not None:
        for message in entry.warned:
            warn(message)
        return entry.automaton
    automaton, warned = _read(key, grammar or (lambda: make().grammar)), list[str]()
    if automaton is None:
        began = perf_counter()
        with hearing() as warned, _uncollected():
            automaton = make()
            if grammar is not None:
                automaton.forget_grammar(partial(_unheard, grammar))
        if not warned and perf_counter() - began > SLOW:
            _write(key, automaton)
    _memory.put(key, automaton, warned)
    return automaton


def _unheard(grammar: Callable[[], Grammar]) -> Grammar:
    """What it warns of has been told."""
    with hearing(told=False), _uncollected():
        return grammar()


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without Python's collector of cycles, which would walk time and again over all that a compiler has made so far.

    Threads that compile at the same time may turn it on too early, which does no harm.
    """
    paused = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if paused:
            gc.enable()


def key(*content: Any) -> str | None:
    """A name for JSON values, and for the code that compiles them; None for what is not JSON.

    The order of the names in an object counts: it decides in which order texts have them.
    """
    try:
        text = json.dumps([*_versions(), *content])
    except (TypeError, ValueError, RecursionError):
        return None
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def _versions() -> tuple[str, ...]:
    """Python's `re` parses patterns and its Unicode tables say what is a letter. In a checkout compilers change."""
    package, version = Path(__file__).parents[1], import_module("genctl").__version__  # it imports nothing from here
    code = [fingerprint(package / part) for part in ("automata", "compilers", "kernels")]
    return (
        f"genctl {version}, format {FORMAT}, {sys.byteorder}-endian",
        f"{platform.python_implementation()} {platform.python_version()}, Unicode {unicodedata.unidata_version}",
        *code,
    )


def fingerprint(folder: Path) -> str:
    """Of the names and contents of the sources in a folder (what compilers of Python and kernels write beside them does
    not count); their times say nothing, wheels may have them all alike.
    """
    digest = hashlib.sha256()
    for path in sorted(os.path.join(name, file) for name, _, files in os.walk(folder) for file in files):
        if path.endswith((".py", ".lark")):
            content = Path(path).read_bytes()
            digest.update(f"{os.path.relpath(path, folder)} {len(content)}\n".encode() + content)
    return digest.hexdigest()


# -- in memory


@dataclass
class _Entry:
    """nbytes: the size of the automaton's arrays when it was last looked up, or another was kept after it."""

    automaton: Automaton
    warned: list[str]
    bound: tuple[Vocabulary, AutomatonConstraint] | None = None
    nbytes: int = 0

    def weigh(self) -> None:
        self.nbytes = sum(array.nbytes for array in self.automaton.machine)


class _Memory:
    """The automata that were used last. Automata grow while they are read, so each thread has its own."""

    def __init__(self) -> None:
        self._entries: OrderedDict[tuple[object, str], _Entry] = OrderedDict()
        self._by_automaton: dict[int, _Entry] = {}
        self._lock = Lock()
        self._thread = local()

    def _here(self, key: str) -> tuple[object, str]:
        """The key in this thread. Threads' numbers would not do: they are given again."""
        return self._thread.__dict__.setdefault("token", object()), key

    def get(self, key: str) -> _Entry | None:
        with self._lock:
            entry = self._entries.get(self._here(key))
            if entry is None:
                return None
            self._entries.move_to_end(self._here(key))
            entry.weigh()
            if entry.nbytes > MEMORY_BYTES:  # it has grown
                self._trim()
            return entry

    def put(self, key: str, automaton: Automaton, warned: list[str]) -> None:
        with self._lock:
            for last in islice(reversed(self._entries.values()), 1):  # it may have grown since it was looked up
                last.weigh()
            entry = _Entry(automaton, warned)
            entry.weigh()
            self._entries[self._here(key)] = entry
            self._by_automaton[id(automaton)] = entry
            self._trim()

    def bound(self, automaton: Automaton, vocabulary: Vocabulary) -> AutomatonConstraint:
        with self._lock:
            entry = self._by_automaton.get(id(automaton)) or _Entry(automaton, [])
            if entry.bound is None or entry.bound[0] is not vocabulary:
                entry.bound = vocabulary, AutomatonConstraint(automaton, vocabulary)
            return entry.bound[1]

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()
            self._by_automaton.clear()

    def _trim(self) -> None:
        total = sum(entry.nbytes for entry in self._entries.values())
        while len(self._entries) > MEMORY_ENTRIES or (self._entries and total > MEMORY_BYTES):
            _, entry = self._entries.popitem(last=False)
            del self._by_automaton[id(entry.automaton)]
            total -= entry.nbytes

    def __len__(self) -> int:
        return len(self._entries)


_memory = _Memory()


def bound(automaton: Automaton, vocabulary: Vocabulary) -> AutomatonConstraint:
    """The automaton in the tokens of the vocabulary; one that is kept in memory gives the same constraint again."""
    return _memory.bound(automaton, vocabulary)


# -- on disk


def folder() -> Path:
    """Beside the converted models (models/gguf.py): in $GENCTL_CACHE, or else in the user's cache folder."""
    return _folder(os.environ.get("GENCTL_CACHE"))


@lru_cache(8)
def _folder(named: str | None) -> Path:
    from platformdirs import user_cache_path

    return (Path(named).expanduser() if named else user_cache_path("genctl")) / "constraints"


def clear() -> int:
    """Forget all compiled rules -> the number of bytes that were freed on disk."""
    _memory.clear()
    freed = sum(file.stat().st_size for file in folder().rglob("*") if file.is_file())
    shutil.rmtree(folder(), ignore_errors=True)
    return freed


def _read(key: str, grammar: Callable[[], Grammar]) -> Automaton | None:
    """None if there is no file, or not the whole file that was written for this key."""
    try:
        data = (folder() / key).read_bytes()
    except OSError:
        return None
    payload = data[_SEAL:]
    return unpack(payload, grammar) if data[:_SEAL] == _seal(key, payload) else None


def _write(key: str, automaton: Automaton) -> None:
    """Whole or not at all; a folder that cannot be written is no mistake."""
    payload = pack(automaton)
    if payload is None or len(payload) > DISK_BYTES:
        return
    with suppress(OSError):
        folder().mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder(), prefix="part-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_seal(key, payload) + payload)
            os.replace(name, folder() / key)
        except BaseException:
            os.unlink(name)
            raise
        _bound_folder()


def _bound_folder() -> None:
    """Delete the oldest files where there are too many bytes; other processes may be doing the same."""
    with os.scandir(folder()) as entries:
        files = sorted((entry.stat().st_mtime_ns, entry.stat().st_size, entry.path) for entry in entries)
    total = sum(size for _, size, _ in files)
    for _, size, path in files:
        if total <= DISK_BYTES:
            break
        Path(path).unlink(missing_ok=True)
        total -= size


_SEAL = hashlib.sha256().digest_size


def _seal(key: str, payload: bytes) -> bytes:
    """What a file begins with: a file that is damaged, or stands under another key, does not fit."""
    return hashlib.sha256(key.encode() + payload).digest()
