"""The command line: `genctl demo | generate | check | sample | doctor | warm | cache`.

Exit codes: 0 done; 1 a text does not obey, or the doctor found something wrong; 2 bad input; 3 no complete text came
out; 130 interrupted.
"""

from __future__ import annotations

import json as json_module
import platform
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import genctl
from genctl.errors import ArgumentError, ConstraintError, DeadEndError, GenctlError, IncompleteError

if TYPE_CHECKING:
    from genctl.constraints.rules import Language, Rule
    from genctl.generate import Model
    from genctl.results import Generation

FAILED, BAD_INPUT, NO_TEXT, INTERRUPTED = 1, 2, 3, 130

app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False
)
cache = typer.Typer(no_args_is_help=True, help="The folder of converted models and compiled rules.")
app.add_typer(cache, name="cache")
out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

ModelOption = Annotated[
    str | None, typer.Option("--model", "-m", help='Hub id, folder, .gguf file or "toy"; default: the packaged model.')
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


def main() -> None:
    """Run the command line; errors that genctl raises on purpose become one message and an exit code."""
    try:
        app()
    except (DeadEndError, IncompleteError) as error:
        sys.exit(_fail(error, NO_TEXT))
    except GenctlError as error:
        sys.exit(_fail(error, BAD_INPUT))
    except OSError as error:
        sys.exit(_fail(error, BAD_INPUT))


def _fail(error: Exception, code: int) -> int:
    err.print(f"[red]{type(error).__name__}[/red]: {escape(str(error))}")
    return code


def _load(source: str | None) -> Model:
    """The model, with a progress bar on a terminal while weights are converted or loaded."""
    if not err.is_terminal:
        return genctl.load(source)
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"), TimeElapsedColumn()
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(f"loading {source or 'the packaged model'}", total=1.0)
        return genctl.load(source, progress=lambda stage, done: bar.update(task, description=stage, completed=done))


def _generate(model: Model, prompt: Any, rule: Any, **options: Any) -> Any:
    """`generate`, with a progress bar on a terminal; Ctrl-C says what was done."""
    try:
        if not err.is_terminal:
            return model.generate(prompt, rule, **options)
        columns = TextColumn("generating"), BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f} tokens")
        with Progress(*columns, console=err, transient=True) as bar:
            task = bar.add_task("tokens", total=options["max_new_tokens"])
            return model.generate(
                prompt, rule, progress=lambda done, of: bar.update(task, completed=done, total=of), **options
            )
    except genctl.Interrupted as interrupt:
        raise _interrupted(interrupt) from None


def _stream(model: Model, prompt: Any, rule: Any, **options: Any) -> Any:
    """`generate`, printing the text as it is made."""
    events, generation = model.stream(prompt, rule, **options), None
    try:
        for event in events:
            print(event.text, end="", flush=True)
            generation = event.generation
    except genctl.Interrupted as interrupt:
        raise _interrupted(interrupt) from None
    finally:
        print()
    return generation


def _interrupted(interrupt: genctl.Interrupted) -> typer.Exit:
    err.print(str(interrupt).partition("\n")[0])
    return typer.Exit(INTERRUPTED)


# -- generate


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(help='The prompt; "-" reads it from standard input.')],
    regex: Annotated[str | None, typer.Option("--regex", "-r", help="Pattern that the whole text must match.")] = None,
    schema: Annotated[
        str | None, typer.Option("--schema", "-s", help="JSON Schema that the text must obey: JSON text or a file.")
    ] = None,
    grammar: Annotated[
        str | None,
        typer.Option("--grammar", "-g", help="A .lark or .gbnf file, or a grammar that ships with genctl: json.lark."),
    ] = None,
    model: ModelOption = None,
    chat: Annotated[bool, typer.Option("--chat", help="Give the prompt as a user's message in a chat.")] = False,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", "-t", help="Tokens of the text.")] = 128,
    num_particles: Annotated[int, typer.Option("--particles", "-p", help="Particles of each run.")] = 1,
    method: Annotated[str, typer.Option(help="awrs, smc, masked, exact or rejection: docs/methods.md.")] = "awrs",
    max_time: Annotated[float | None, typer.Option(help="Seconds, after which the best so far is printed.")] = None,
    exact_boundary: Annotated[
        bool | None,
        typer.Option(
            "--exact-boundary/--token-boundary",
            help="Go on from the prompt's bytes or tokens; by default from bytes where it ends inside a token.",
        ),
    ] = None,
    num_return_sequences: Annotated[int, typer.Option("--sequences", "-n", help="Independent runs.")] = 1,
    temperature: Annotated[float, typer.Option(help="Below 1 sharper, above 1 flatter.")] = 1.0,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same text.")] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Print the text as it is made.")] = False,
    json: JsonOption = False,
) -> None:
    """Generate text that obeys a rule.

    Examples:

    `genctl generate "The date is " --regex "[0-9]{4}-[0-9]{2}-[0-9]{2}" -n 4`

    `genctl generate --chat "A trip to Rome, as JSON" --schema trip.json --seed 1`

    `genctl generate "A sum: " --grammar arithmetic.lark --max-new-tokens 20`

    `genctl generate "yes or no? " --regex "yes|no" --model toy --particles 16 --json`
    """
    rule = _rule({"--regex": regex, "--schema": schema, "--grammar": grammar})
    text = sys.stdin.read() if prompt == "-" else prompt
    if stream and json:
        raise ArgumentError("--stream and --json were given\nhint: give one of them")
    result = (_stream if stream else _generate)(
        _load(model),
        _chat(text) if chat else text,
        rule,
        max_new_tokens=max_new_tokens,
        num_particles=None if method == "smc" and num_particles == 1 else num_particles,
        method=method,
        max_time=max_time,
        exact_boundary=exact_boundary,
        num_return_sequences=num_return_sequences,
        temperature=temperature,
        seed=seed,
    )
    from genctl.results import FINISHED

    several = list(result) if num_return_sequences > 1 else [result]
    if json:
        record = [_record(one) for one in several]
        print(json_module.dumps(record if num_return_sequences > 1 else record[0], ensure_ascii=False))
    elif not stream:
        for one in several:
            print(one.text)
    incomplete = [one for one in several if rule is not None and one.finish_reason not in FINISHED]
    if incomplete:
        raise typer.Exit(_fail(IncompleteError(f"{len(incomplete)} of {len(several)} texts met a dead end"), NO_TEXT))


def _rule(options: dict[str, str | None]) -> Rule | None:
    """The rule of the one option that was given."""
    given = [name for name, value in options.items() if value is not None]
    if len(given) > 1:
        raise ConstraintError(f"{' and '.join(given)} were given", hint="give one of them")
    makers: dict[str, Callable[[str], Rule]] = {
        "--regex": genctl.regex,
        "--schema": lambda schema: genctl.json(_json_text(schema)),
        "--grammar": _grammar,
    }
    return next((makers[name](value) for name, value in options.items() if value is not None), None)


def _record(one: Generation) -> dict[str, Any]:
    """A generation as JSON; -inf, which JSON has no number for, is null."""
    numbers = {"logprob": one.logprob, "log_weight": one.log_weight, "log_evidence": one.log_evidence, "ess": one.ess}
    return {
        "text": one.text,
        "tokens": list(one.tokens),
        "finish_reason": one.finish_reason,
        **{name: None if number == float("-inf") else number for name, number in numbers.items()},
        "posterior": dict(one.posterior().most_common()),
    }


# -- check


RuleArgument = Annotated[
    str,
    typer.Argument(
        help="JSON text or a .json file: a JSON Schema; a .lark or .gbnf file, or a grammar that ships with genctl, "
        "such as json.lark; anything else: a pattern."
    ),
]


@app.command()
def check(
    rule: RuleArgument,
    text: Annotated[str, typer.Argument(help='The text; "-" reads standard input, "@FILE" a file.')],
    json: JsonOption = False,
) -> None:
    """Does a text obey a rule, and if not, where does it leave it?

    Examples:

    `genctl check '[0-9]{4}-[0-9]{2}' 2026-1`

    `genctl check schema.json @answer.json`

    `genctl check arithmetic.lark '2*(3+x'`

    `genctl check '{"type": "integer", "minimum": 3}' 2 --json`
    """
    from genctl.constraints.explain import explain

    language = _language(rule)
    verdict = explain(language.automaton, _text(text), language.checks)
    if json:
        print(json_module.dumps(vars(verdict), ensure_ascii=False))
    else:
        print(verdict)
        if verdict.status != "accepted":
            print(f"a shortest way to complete what was read: {verdict.completion!r}")
    if verdict.status != "accepted":
        raise typer.Exit(FAILED)


@app.command()
def sample(
    rule: RuleArgument,
    number: Annotated[int, typer.Option("--number", "-n", min=1, help="How many texts.")] = 5,
    after: Annotated[str, typer.Option("--after", help='Complete this text; "-" and "@FILE" as in check.')] = "",
    size: Annotated[int, typer.Option("--size", min=0, help="Bytes after which a text comes to its end.")] = 60,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same texts.")] = None,
    json: JsonOption = False,
) -> None:
    """Random texts that obey a rule, without a model: a look at what the rule allows.

    Examples:

    `genctl sample arithmetic.lark`

    `genctl sample schema.json --after '{"days": ' -n 3 --seed 1`

    `genctl sample '[a-z]+@[a-z]+[.]org' --json`
    """
    from genctl.constraints.explain import explain

    language, begun = _language(rule), _text(after)
    verdict = explain(language.automaton, begun, language.checks)
    if verdict.status == "rejected":
        print(f"no text begins with this: {verdict}")
        raise typer.Exit(FAILED)
    texts = list(_sentences(language, begun, number, size, seed))
    if json:
        print(json_module.dumps(texts, ensure_ascii=False))
    else:
        for text in texts:
            print(text)


def _sentences(language: Language, begun: str, number: int, size: int, seed: int | None) -> Iterator[str]:
    """Texts of the language that begin with `begun`."""
    import numpy as np

    from genctl.automata.base import run
    from genctl.constraints.sentences import sample

    rng, raw, automaton = np.random.default_rng(seed), begun.encode(), language.automaton
    state = run(automaton, automaton.start, raw)
    for _ in range(number):
        text = sample(automaton, rng, size=size, state=state, checks=language.checks, begun=raw)
        if text is None:
            print("no text was found that passes the checks of the rule")
            raise typer.Exit(FAILED)
        yield (raw + text).decode(errors="replace")


def _language(rule: str) -> Language:
    if rule.lstrip().startswith("{") or rule.endswith(".json"):
        return genctl.json(_json_text(rule))
    if rule.endswith((".lark", ".gbnf", ".ebnf")):
        return _grammar(rule)
    return genctl.regex(rule)


def _grammar(name: str) -> Language:
    """A file, or else a grammar that ships with genctl, by its name with or without the ending."""
    path = Path(name)
    if path.suffix == ".gbnf":
        return genctl.gbnf(path)
    if path.suffix not in ("", ".lark"):
        raise ConstraintError(f"{name} is no grammar", hint="give a .lark or .gbnf file, or a name such as json.lark")
    if path.is_file() or len(path.parts) > 1:
        return genctl.lark(path)
    try:
        return genctl.lark(path.stem)
    except ConstraintError as error:  # the name of no grammar
        raise ConstraintError(f"there is no file {name}, and {error.reason}", hint=error.hint) from None


def _json_text(schema: str) -> str:
    return schema if schema.lstrip().startswith(("{", "true", "false")) else Path(schema).read_text("utf-8")


def _text(text: str) -> str:
    if text == "-":
        return sys.stdin.read()
    return Path(text[1:]).read_text("utf-8") if text.startswith("@") else text


# -- doctor, warm and cache


@app.command()
def doctor(
    model: ModelOption = None,
    json: JsonOption = False,
) -> None:
    """Versions, compiled kernels, the model that `genctl.load()` finds, and whether its tokenizer reads back exactly.

    Examples:

    `genctl doctor`

    `genctl doctor --model ./my-model --json`
    """
    findings = [*_versions(), _kernels(), _cache_size(), *_model(model)]
    if json:
        print(json_module.dumps([{"what": w, "ok": ok, "found": found} for w, ok, found in findings]))
    else:
        table = Table(show_header=False, box=None)
        for what, ok, found in findings:
            table.add_row("[green]ok[/green]" if ok else "[red]no[/red]", what, escape(found))
        out.print(table)
    if not all(ok for _, ok, _ in findings):
        raise typer.Exit(FAILED)


Finding = tuple[str, bool, str]


def _versions() -> Iterator[Finding]:
    yield "python", sys.version_info >= (3, 11), platform.python_version()
    for package in ("genctl", "numpy", "numba", "pydantic", "torch", "transformers", "gguf"):
        try:
            yield package, True, metadata.version(package)
        except metadata.PackageNotFoundError:
            yield package, False, 'not installed: pip install "genctl[hf]"'


def _kernels() -> Finding:
    toy = genctl.load("toy").generate("The date is ", genctl.regex("[0-9]{4}"), seed=0, max_new_tokens=8)
    return "kernels", len(toy.text) == 4, f"compiled, toy model says {toy.text!r}"


def _cache_size() -> Finding:
    from genctl.models.packaged import cache_folder

    folder = cache_folder()
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else 0
    return "cache", True, f"{folder} ({size / 2**20:.0f} MiB)"


def _model(source: str | None) -> Iterator[Finding]:
    from genctl.constraints.canonical import CanonicalConstraint

    try:
        model = _load(source).language_model
        probe = 'Déjà vu in 2026: {"a": [1, 2]}\n\t日本 🙂'
        exact = model.vocabulary.join(model.encode(probe)).decode() == probe
    except GenctlError as error:
        yield "model", False, str(error)
        return
    reads = "reads back exactly" if exact else "does not read back what it encodes"
    yield "model", exact, f"{source or 'packaged'}: {len(model.vocabulary)} tokens, {reads}"
    tokenizer = getattr(model, "tokenizer", None)
    reason = "there is no tokenizer"
    if tokenizer is not None:
        reason = CanonicalConstraint.why_not(tokenizer) or ""
        reason = reason and f"the tokenizer has {reason}"
    yield "byte view", True, f"of all token sequences ({reason})" if reason else "of canonical token sequences"


@app.command()
def warm() -> None:
    """Compile all kernels now, so that the first text does not wait for them: for container images.

    They are kept beside genctl's sources, or in NUMBA_CACHE_DIR if that is set, then and later.

    Example: `genctl warm`
    """
    from genctl import ahead
    from genctl.warm import warm as compile_kernels

    compile_kernels()
    print(f"compiled kernels are kept in {ahead.folder()}")


@cache.command("clear")
def cache_clear() -> None:
    """Delete the converted models and the compiled rules; they are made again when they are needed.

    Example: `genctl cache clear`
    """
    from genctl.constraints import store
    from genctl.models.packaged import cache_folder, clear_cache

    clear_cache()
    store.clear()
    print(f"cleared {cache_folder()}")


@cache.command("path")
def cache_path() -> None:
    """Print the folder.

    Example: `genctl cache path`
    """
    from genctl.models.packaged import cache_folder

    print(cache_folder())


# -- demo


@app.command()
def demo(model: ModelOption = None) -> None:
    """Four things that genctl does, with a real model.

    Examples:

    `genctl demo`

    `genctl demo --model toy`
    """
    lm = _load(model)
    if model is None:
        from genctl.models.packaged import cache_folder

        out.print(f"[dim]The packaged model; its converted weights are kept in {cache_folder()}[/dim]\n")
    out.print("[bold]1. A pydantic model, filled from a prompt, 8 particles[/bold]")
    _demo_object(lm)
    out.print("\n[bold]2. A date by regex, four samples[/bold]")
    _demo_samples(lm)
    out.print("\n[bold]3. A word under regex & python predicate, 16 particles[/bold]")
    prompt = _demo_posterior(lm)
    out.print("\n[bold]4. The same prompt without a rule[/bold]")
    g = _generate(lm, _chat(prompt), None, max_new_tokens=24, seed=0)
    out.print(f"   g.text      {escape(repr(g.text))}")


def _chat(prompt: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}]


def _demo_object(lm: Model) -> None:
    from pydantic import BaseModel, Field

    class Trip(BaseModel):
        city: str = Field(max_length=20)
        days: int = Field(ge=1, le=14)
        sights: list[Annotated[str, Field(min_length=1, max_length=24)]] = Field(min_length=1, max_length=3)

    prompt = "Plan a short holiday in Lisbon. Answer as JSON with city, days and sights."
    out.print(f"   prompt      {prompt}")
    g = _generate(lm, _chat(prompt), Trip, num_particles=8, max_new_tokens=96, temperature=0.7, seed=0)
    out.print(f"   g.value     {escape(repr(g.value))}")
    out.print(f"   g.log_weight {g.log_weight:.2f} nats: what the rule cost")


def _demo_samples(lm: Model) -> None:
    prompt = "When did the Second World War end in Europe? Answer only with the date, as YYYY-MM-DD."
    out.print(f"   prompt      {prompt}")
    date = genctl.regex("[0-9]{4}-[0-9]{2}-[0-9]{2}")
    for g in _generate(lm, _chat(prompt), date, num_return_sequences=4, max_new_tokens=12, temperature=0.7, seed=0):
        out.print(f"   {escape(g.text)}   log-probability {g.logprob:7.2f}   log-weight {g.log_weight:7.2f}")


def _demo_posterior(lm: Model) -> str:
    def no_letter_twice(text: str, done: bool) -> bool:
        return len(set(text)) == len(text)

    prompt = "Name an animal. Answer with one word, in lower case, and nothing else."
    out.print(f"   prompt      {prompt}")
    rule = genctl.regex("[a-z]{3,10}") & no_letter_twice
    g = _generate(lm, _chat(prompt), rule, num_particles=16, max_new_tokens=8, seed=2)
    table = Table("text", "weight", box=None, padding=(0, 3))
    for text, weight in g.posterior().most_common(6):
        table.add_row(escape(text), f"{weight:.3f}")
    out.print(table)
    out.print(f"   ESS {g.ess:.1f} of 16, log evidence {g.log_evidence:.2f} nats, {g.checks} tokens checked")
    return prompt


if __name__ == "__main__":
    main()
