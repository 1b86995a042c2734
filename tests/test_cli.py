"""The command line: what it prints, and its exit codes."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest


def genctl(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "genctl.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, input=stdin, check=False)


@pytest.mark.parametrize(
    ("arguments", "code", "printed"),
    [
        (["check", "[0-9]{4}", "2026"], 0, "accepted"),
        (["check", "[0-9]{4}", "20x"], 1, "rejected at line 1, column 3 (byte 2): found 'x', expected '0'-'9'"),
        (["check", "[0-9]{4}", "20"], 1, "incomplete at line 1, column 3 (byte 2)"),
        (["check", "[0-9]{4}", "20"], 1, "a shortest way to complete what was read: '00'"),
        (["check", '{"type": "integer", "minimum": 3}', "12"], 0, "accepted"),
        (["check", '{"type": "integer", "maximum": 3}', "12"], 1, "rejected at line 1, column 2"),
        (["check", "arithmetic.lark", "2*(3+4)"], 0, "accepted"),
        (["check", "json.lark", '{"a":\n 1,}'], 1, "rejected at line 2, column 4 (byte 9): found '}', expected"),
        (["sample", "[ab]{3}", "-n", "2", "--seed", "1"], 0, "\n"),
        (["sample", "[0-9]{4}", "--after", "x"], 1, "no text begins with this: rejected at line 1, column 1"),
        (["generate", "2 + 2 = ", "-g", "arithmetic.lark", "-m", "toy", "-t", "9", "--seed", "0"], 0, ""),
        (["generate", "the answer is ", "-r", "yes|no", "-m", "toy", "--seed", "0"], 0, ""),
        (["warm"], 0, "compiled kernels are kept in "),
    ],
)
def test_a_command_prints_its_answer_and_exits_with_its_code(arguments, code, printed):
    done = genctl(*arguments)
    assert done.returncode == code, done.stderr
    assert printed in done.stdout
    assert done.stderr == ""


def test_a_streamed_text_is_the_text():
    arguments = ["generate", "the cat ", "-r", "[a-z ]{4,20}", "-m", "toy", "--seed", "4"]
    whole, streamed = genctl(*arguments), genctl(*arguments, "--stream")
    assert (streamed.stdout, streamed.returncode, streamed.stderr) == (whole.stdout, 0, "")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["check", "(abc", "x"], 2, "at characters"),
        (["check", r"(a)\1", "x"], 2, "back-reference"),
        (["check", '{"properties": {"a": {"pattern": "("}}}', "{}"], 2, "/properties/a/pattern"),
        (["check", "missing.json", "{}"], 2, "missing.json"),
        (["check", "grammar.lark", "{}"], 2, "there is no file grammar.lark"),
        (["check", "missing/grammar.lark", "{}"], 2, "missing/grammar.lark"),
        (["check", "grammar.gbnf", "{}"], 2, "grammar.gbnf"),
        (["sample", "grammar.ebnf"], 2, "grammar.ebnf is no grammar"),
        (["sample", "(abc"], 2, "at characters"),
        (["generate", "x", "-r", "a", "-s", "{}", "-m", "toy"], 2, "--regex and --schema were given"),
        (["generate", "x", "-r", "a", "-m", "/no/such/folder"], 2, "/no/such/folder"),
        (["generate", "x", "-m", "toy", "--stream", "--json"], 2, "--stream and --json were given"),
        (["generate", "x", "-m", "toy", "--stream", "-n", "2"], 2, "does not go with num_return_sequences"),
        (["generate", "x", "-r", "[a-z]{99}", "-m", "toy", "-t", "3"], 2, "max_new_tokens is 3"),
    ],
)
def test_bad_input_is_refused_with_the_place_on_standard_error(arguments, code, message):
    done = genctl(*arguments)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_json_output_is_one_object(tmp_path):
    schema = tmp_path / "schema.json"
    schema.write_text('{"enum": ["yes", "no"]}')
    done = genctl(
        "generate", "-", "-s", str(schema), "-m", "toy", "-p", "4", "--json", "--seed", "1", stdin="the answer is "
    )
    record = json.loads(done.stdout)
    assert record["finish_reason"] == "complete"
    assert sum(record["posterior"].values()) == pytest.approx(1)
    verdict = json.loads(genctl("check", str(schema), '"maybe"', "--json").stdout)
    assert (verdict["status"], verdict["offset"]) == ("rejected", 1)


def test_samples_obey_the_rule_and_complete_what_was_begun(tmp_path):
    (tmp_path / "pairs.gbnf").write_text('root ::= "(" [a-z]+ "," [0-9] ")"')
    rule = str(tmp_path / "pairs.gbnf")
    texts = json.loads(genctl("sample", rule, "--after", "(q", "-n", "20", "--seed", "1", "--json").stdout)
    assert len(texts) == 20
    assert all(re.fullmatch(r"\(q[a-z]*,[0-9]\)", text) for text in texts)
    assert genctl("check", rule, texts[0]).returncode == 0
    again = genctl("sample", rule, "--after", "(q", "-n", "20", "--seed", "1", "--json").stdout
    assert json.loads(again) == texts


def test_a_text_can_come_from_a_file(tmp_path):
    (tmp_path / "text").write_text("2026")
    assert genctl("check", "[0-9]{4}", f"@{tmp_path / 'text'}").returncode == 0


@pytest.mark.parametrize("command", [[], ["generate"], ["check"], ["sample"], ["doctor"], ["demo"], ["cache"]])
def test_help_has_examples(command):
    done = genctl(*command, "--help")
    assert done.returncode == 0
    assert command[:1] in ([], ["cache"]) or f"genctl {command[0]}" in done.stdout


def test_the_demo_runs_on_the_toy_model():
    done = genctl("demo", "-m", "toy")
    assert done.returncode == 0, done.stderr
    assert all(f"{number}." in done.stdout for number in (1, 2, 3, 4))
    assert "log evidence" in done.stdout


@pytest.mark.real
def test_the_demo_parses_an_object_with_the_packaged_model():
    pytest.importorskip("transformers")
    done = genctl("demo")
    assert done.returncode == 0, done.stderr
    assert "Trip(city=" in done.stdout
    assert done.stdout.count("log-probability") == 4
    assert "ESS" in done.stdout


def test_the_doctor_says_that_canonical_sequences_of_byte_fallback_are_decided(tmp_path):
    pytest.importorskip("transformers")
    from genctl import cli
    from tests.tiny_models import tiny_causal_lm, tiny_fallback_tokenizer

    tiny_causal_lm("llama").save_pretrained(tmp_path)
    tiny_fallback_tokenizer("never").save_pretrained(tmp_path)
    assert ("byte view", True, "of canonical token sequences") in list(cli._model(str(tmp_path)))


@pytest.mark.real
def test_the_doctor_finds_nothing_wrong():
    pytest.importorskip("transformers")
    done = genctl("doctor", "--json")
    assert done.returncode == 0, done.stdout
    assert all(finding["ok"] for finding in json.loads(done.stdout))


def test_nothing_is_warmed_where_numba_compiles_nothing(monkeypatch):
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    done = genctl("warm")
    assert (done.returncode, done.stdout) == (2, "")
    assert "NUMBA_DISABLE_JIT is set" in done.stderr
