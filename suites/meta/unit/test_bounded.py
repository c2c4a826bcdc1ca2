"""The one reader of files from outside: its bounds, and sentences that any terminal can show."""

import json
import os

import pytest

from fixtures.io.bounded import DEPTH, DIGITS, Unreadable, json_of, read_text, sentence, text_of, toml_of
from fixtures.matrix import MatrixError
from fixtures.report.matrix import last_verdicts
from fixtures.results import ResultsError
from fixtures.weights.contents import CheckpointError

NESTED = "[" * DEPTH + "]" * DEPTH


def reported(read, text):
    """What is said of a text that is not taken."""
    with pytest.raises(Unreadable) as caught:
        read(text)
    return str(caught.value)


@pytest.mark.parametrize(("text", "said"), [
    ('{"a": {"b": [1, NaN]}}', "a/b has 1 = NaN, not a finite number"),
    ('{"a": 1e999}', "has a = 1e999, not a finite number"),
    (f'{{"a": {"9" * (DIGITS + 1)}}}', f"not a finite number of at most {DIGITS} digits"),
    ("9" * 5000, "has a value = 999"),
    ('{"a": 1, "b": 2, "a": 3}', "has the key 'a' twice in one object"),
    (f"[{NESTED}]", f"is nested more than {DEPTH} levels deep"),
    ("[" * 100_000, f"is nested more than {DEPTH} levels deep"),
    ('{"a":\n 1,}', "is malformed JSON at line 2 column 4"),
    ('{"a": "\0"}', "is malformed JSON at line 1"),
])  # fmt: skip
def test_json_out_of_limits_is_reported_with_its_place(text, said):
    assert said in reported(json_of, text)


def test_json_within_limits_is_taken():
    assert json_of(NESTED)
    assert json_of('{"a": -1.5e3, "b": "\\ud800"}') == {"a": -1500.0, "b": "\ud800"}
    assert str(json_of("[NaN, Infinity]", constants=True)) == "[nan, inf]"


@pytest.mark.parametrize(("text", "said"), [
    (".".join("a" * 10_000) + " = 1", "line 1 is longer than 10000 characters"),
    (".".join("a" * 100) + " = 1", f"is nested more than {DEPTH} levels deep"),
    ("[a]\nb = " + "0x" + "f" * 600, "a has b = a whole number, not a finite number"),
    ("a = 1\na = 2", "is malformed TOML: Cannot overwrite a value"),
])  # fmt: skip
def test_toml_out_of_limits_is_reported_with_its_place(text, said):
    assert said in reported(toml_of, text)


@pytest.mark.parametrize(("data", "said"), [
    (b"a\n\xff", "line 2 is not UTF-8"),
    (b"\xef\xbb\xbf{}", "begins with a byte order mark"),
    ("{}".encode("utf-16"), "line 1 is not UTF-8"),
])  # fmt: skip
def test_other_encodings_are_reported(data, said):
    with pytest.raises(Unreadable, match=said):
        text_of(data)


@pytest.mark.parametrize(("make", "said"), [
    (os.mkfifo, "is not a regular file"),
    (os.mkdir, "cannot be read .Is a directory|is not a regular file"),
    (lambda path: path.symlink_to("/dev/zero"), "is not a regular file"),
    (lambda path: path.symlink_to(path), "cannot be read .Too many levels"),
    (lambda path: path.write_bytes(b"12345"), "is bigger than .* MiB"),
])  # fmt: skip
def test_what_cannot_be_read_within_limits_is_never_waited_for(tmp_path, make, said):
    make(tmp_path / "file")
    with pytest.raises(Unreadable, match=said):
        read_text(tmp_path / "file", 4)


def test_a_missing_file_is_for_the_caller_to_checks(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_text(tmp_path / "file", 4)


@pytest.mark.parametrize(("text", "shown"), [
    ("a\n  b\u2028c", "a b c"),
    ("\x1b[31mred\ud800", "\\x1b[31mred\\ud800"),
    ("é ± 2 €", "é ± 2 €"),
])  # fmt: skip
def test_a_sentence_is_one_line_without_commands_to_the_terminal(text, shown):
    assert sentence(text) == shown
    for error in (CheckpointError(text), ResultsError("file", text, text, text), MatrixError("file", text, text, text)):
        assert shown in str(error)
        assert str(error).isprintable()


def test_no_value_drowns_its_sentence():
    for kind in (ResultsError, MatrixError):
        text = str(kind("file", "x" * 9000, "y" * 9000, "z" * 9000))
        assert len(text) < 1500
        assert text.count("...") == 3


def test_a_record_that_is_no_verdict_is_one_sentence(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_text(json.dumps({"schema": 1, "suite": "generation", "cell": [], "verdict": "PASS"}) + "\n")
    with pytest.raises(ResultsError, match=r"journal\.jsonl: record no\. 1 has no suite, cell and verdict; name the"):
        last_verdicts(path)
