"""The results on bad input: one clear sentence for every file, folder and disk that cannot be used."""

import json
import os
import pickle
import stat
from pathlib import Path

import numpy as np
import pytest

from fixtures.results import Baselines, Journal, ResultsError, Value, read_journal

CELL = "llama-2-7b-bf16-cpu-single"
ADDRESS = ("latency", "cpu", "m1")
HINT = "; restore it with git checkout, or delete it and accept anew with --update-baselines"


def good():
    values = {"end_to_end": {"value": 0.5, "spread": None, "unit": "s"}}
    return {
        "schema": 1,
        "suite": "latency",
        "platform": "cpu",
        "key": "m1",
        "provenance": {"p1": {}},
        "cells": {CELL: {"accepted": "2026-01-02", "provenance": "p1", "n": 3, "values": values}},
    }


def write(folder, content):
    file = folder / "cpu" / "m1" / "latency.json"
    file.parent.mkdir(parents=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def assert_one_sentence(error, *parts):
    text = str(error)
    assert "\n" not in text
    assert len(text) < 400
    for part in parts:
        assert part in text, f"{part!r} is missing in: {text}"
    assert str(pickle.loads(pickle.dumps(error))) == text


# Baselines: files

CHANGES = {  # where, new value (None: removed) -> what the message says
    "no schema": (("schema",), None, "has schema = None; this release reads schema = 1"),
    "new schema": (("schema",), 2, "has schema = 2; this release reads schema = 1"),
    "true schema": (("schema",), True, "has schema = True;"),
    "other machine": (("key",), "m2", "has key = 'm2' where its path says 'm1'"),
    "other suite": (("suite",), "generation", "has suite = 'generation' where its path says 'latency'"),
    "no cells": (("cells",), None, "has no cells"),
    "cells as a list": (("cells",), [], "cells is [], not a JSON object"),
    "unknown key": (("cell",), {}, "has the unknown key 'cell' (did you mean 'cells'?)"),
    "odd block": (("provenance", "p1"), 3, "provenance/p1 is 3, not a JSON object"),
    "odd cell": (("cells", CELL), [], f"cells/{CELL} is [], not a JSON object"),
    "no n": (("cells", CELL, "n"), None, f"cells/{CELL} has no n"),
    "zero n": (("cells", CELL, "n"), 0, "has n = 0, not a whole number above 0"),
    "flag n": (("cells", CELL, "n"), True, "has n = True, not a whole number above 0"),
    "odd date": (("cells", CELL, "accepted"), "soon", "has accepted = 'soon', not a date"),
    "numeric date": (("cells", CELL, "accepted"), 20260102, "has accepted = 20260102, not a date"),
    "lost origin": (("cells", CELL, "provenance"), "p9", "has provenance = 'p9', which names no block"),
    "list origin": (("cells", CELL, "provenance"), [], "has provenance = [], which names no block"),
    "no values": (("cells", CELL, "values"), {}, f"cells/{CELL} has no values"),
    "text value": (
        ("cells", CELL, "values", "end_to_end", "value"),
        "1",
        "has value = '1', not a finite number",
    ),
    "negative": (
        ("cells", CELL, "values", "end_to_end", "value"),
        -0.5,
        "has value = -0.5, not a finite number",
    ),
    "null value": (
        ("cells", CELL, "values", "end_to_end"),
        {"value": None, "spread": 0, "unit": ""},
        "value = None",
    ),
    "NaN": (
        ("cells", CELL, "values", "end_to_end", "spread"),
        float("nan"),
        "has spread = NaN, not a finite",
    ),
    "infinite": (
        ("cells", CELL, "values", "end_to_end", "value"),
        float("inf"),
        "has value = Infinity, not a finite",
    ),
    "beyond floats": (("cells", CELL, "values", "end_to_end", "value"), 10**400, "has value = 1000"),
    "odd unit": (("cells", CELL, "values", "end_to_end", "unit"), 1, "values/end_to_end has unit = 1, not a"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_wrong_shape(tmp_path, name):
    where, value, message = CHANGES[name]
    data = good()
    table = data
    for key in where[:-1]:
        table = table[key]
    if value is None:
        del table[where[-1]]
    else:
        table[where[-1]] = value
    file = write(tmp_path, json.dumps(data))
    with pytest.raises(ResultsError) as caught:
        Baselines(tmp_path).find(*ADDRESS, CELL)
    assert_one_sentence(caught.value, f"{file}: ", message, HINT[2:])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is malformed JSON at line 1 column 1 (Expecting value)"),
        ('{\n "schema": 1,\n <<<<<<< HEAD\n}', "is malformed JSON at line 3 column 2"),
        (json.dumps(good(), indent=1)[:-40], "is malformed JSON at line "),
        ("[" * 200_000, "is nested more than 64 levels deep"),
        ('{"a":' * 200_000, "is nested more than 64 levels deep"),
        ("1" * 5000, "not a finite number of at most 300 digits"),
        ('{"schema": 1, "schema": 1}', "has the key 'schema' twice in one object"),
        ("[1]", "is [1], not a JSON object"),
        ('{"schema": 1, "\\ud800\\n": 1}', r"has the unknown key '\ud800\n' (known are"),
        (b'{\n"a": "\xff"}', "line 2 is not UTF-8"),
        (b" " * (32 * 2**20 + 1), "is bigger than 32 MiB"),
        ("9" * 100, "is 999"),
    ],
)
def test_unreadable_content(tmp_path, content, message):
    file = write(tmp_path, content)
    with pytest.raises(ResultsError) as caught:
        Baselines(tmp_path).find(*ADDRESS, CELL)
    assert_one_sentence(caught.value, f"{file}: ", message, HINT)
    with pytest.raises(ResultsError):
        Baselines(tmp_path).elsewhere("latency", "cpu", CELL)


def test_commit_never_overwrites_a_file_that_it_cannot_read(tmp_path):
    file = write(tmp_path, "{")
    store = Baselines(tmp_path)
    store.record(*ADDRESS, CELL, {"end_to_end": Value(1)}, 1)
    with pytest.raises(ResultsError, match="is malformed JSON"):
        store.commit({})
    assert file.read_text() == "{"
    assert os.listdir(file.parent) == ["latency.json"]


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_what_is_no_regular_file_is_reported_and_never_waited_for(tmp_path, make):
    file = tmp_path / "cpu" / "m1" / "latency.json"
    file.parent.mkdir(parents=True)
    make(file)
    with pytest.raises(
        ResultsError,
        match=r"latency\.json: (is not a regular file; restore|cannot be read \(Is a directory\); it must)",
    ):
        Baselines(tmp_path).find(*ADDRESS, CELL)


# Baselines: folders. Permissions do not bind root, as which this may run: /proc, where nobody can make a
# file, and a regular file in a folder's place fail for every user.


def test_check_writable_leaves_nothing_behind(tmp_path):
    write(tmp_path, json.dumps(good()))
    Baselines(tmp_path).check_writable()
    assert [path.name for path in tmp_path.rglob("*")] == ["cpu", "m1", "latency.json"]


def test_check_writable_tells_what_is_wrong(tmp_path):
    (tmp_path / "file").write_text("")
    hint = "; name a folder with free space that this user may write to"
    for folder, message in [
        (
            tmp_path / "absent",
            f"absent: there is no such folder for baselines; create it with mkdir -p {tmp_path}",
        ),
        (tmp_path / "file", f"file: is no folder that baselines can be written to (Not a directory){hint}"),
        (Path("/proc/self"), "/proc/self: is no folder that baselines can be written to ("),
    ]:
        with pytest.raises(ResultsError) as caught:
            Baselines(folder).check_writable()
        assert_one_sentence(caught.value, message)


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
@pytest.mark.parametrize("inner", [".", "cpu", "cpu/m1"])
def test_check_writable_sees_inner_folders_too(tmp_path, inner):
    write(tmp_path, json.dumps(good()))
    (tmp_path / inner).chmod(0o500)
    try:
        with pytest.raises(ResultsError, match=r"can be written to \(Permission denied\)"):
            Baselines(tmp_path).check_writable()
    finally:
        (tmp_path / inner).chmod(0o700)


def test_commit_into_a_file_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    store = Baselines(tmp_path / "file")
    store.record(*ADDRESS, CELL, {"end_to_end": Value(1)}, 1)
    with pytest.raises(ResultsError) as caught:
        store.commit({})
    assert_one_sentence(caught.value, "file: cannot be written (", "; the old numbers are kept; name a folder with")


# The journal


def test_journal_round_trip_and_permissions(tmp_path):
    path = tmp_path / "a" / "b" / "journal.jsonl"
    record = {
        "cell": CELL,
        "values": {
            "x": np.float32(0.5),
            "y": np.int64(3),
            "z": [float("nan"), float("-inf"), np.float64("inf")],
        },
        "set": {2, 1},
        "array": np.arange(2),
        "path": Path("/x"),
        "text": "é\n\ud800",
        "schema": 7,
        4: None,
    }
    with Journal(path) as journal:
        journal.append(record)
        journal.append({"n": 2})
        assert len(list(read_journal(path))) == 2, "each record is on the disk at once"
    first, second = read_journal(path)
    assert first == {
        "schema": 3,
        "cell": CELL,
        "values": {"x": 0.5, "y": 3, "z": ["nan", "-inf", "inf"]},
        "set": [1, 2],
        "array": [0, 1],
        "path": "/x",
        "text": "é\n\ud800",
        "4": None,
    }
    assert second == {"schema": 3, "n": 2}
    modes = [stat.S_IMODE(place.stat().st_mode) for place in (path, path.parent, path.parent.parent)]
    assert modes == [0o600, 0o700, 0o700]


def test_journal_refuses_what_it_cannot_hold(tmp_path):
    with (
        Journal(tmp_path / "j") as journal,
        pytest.raises(TypeError, match=r"record\['a'\]\[0\] is a object"),
    ):
        journal.append({"a": [object()]})
    assert (tmp_path / "j").read_bytes() == b""


@pytest.mark.parametrize(
    ("tail", "records", "torn"),
    [
        (b"", 2, None),
        (b'{"schema": 1, "n"', 2, 3),
        (b'{"schema": 1, "text": "\xc3', 2, 3),
        (b"\0" * 100, 2, 3),
        (b'{"schema": 1, "x": "' + b"y" * 200_000, 2, 3),
        (b'{"schema": 1, "n": 3}', 3, None),
    ],
)
def test_torn_last_line_is_passed_over_and_fixed(tmp_path, tail, records, torn):
    path = tmp_path / "journal"
    path.write_bytes(b'{"schema": 1, "n": 1}\n{"schema": 1, "n": 2}\n' + tail)
    reader = read_journal(path)
    assert (len(list(reader)), reader.torn) == (records, torn)
    with Journal(path) as journal:
        journal.append({"n": "after"})
    again = read_journal(path)
    assert [record["n"] for record in again] == [*range(1, records + 1), "after"]
    assert again.torn is None


def test_journal_that_is_one_torn_line(tmp_path):
    (tmp_path / "journal").write_bytes(b"{")
    Journal(tmp_path / "journal").close()
    assert (tmp_path / "journal").read_bytes() == b""


@pytest.mark.parametrize(
    "line", [b"{", b"", b"[]", b"1", b'{"n": 1}', b'{"schema": 4}', b"\xff", b"\0", b"[" * 100_000]
)
def test_any_other_malformed_line_is_an_error(tmp_path, line):
    path = tmp_path / "journal"
    path.write_bytes(b'{"schema": 1}\n' + line + b"\n" + b'{"schema": 1}\n')
    reader = read_journal(path)
    assert next(reader) == {"schema": 1}
    with pytest.raises(ResultsError) as caught:
        next(reader)
    assert_one_sentence(
        caught.value, f"{path}: line 2 is no record of schema 1 or 2 or 3: b'", "; take the file from the run"
    )


def test_missing_journal(tmp_path):
    with pytest.raises(ResultsError) as caught:
        list(read_journal(tmp_path / "absent"))
    assert_one_sentence(caught.value, "absent: cannot be read (No such file or directory); name the journal of a")


def test_full_disk_is_reported():
    # /dev/full takes no byte, from any user.
    with Journal(Path("/dev/full")) as journal, pytest.raises(ResultsError) as caught:
        journal.append({"n": 1})
    assert_one_sentence(caught.value, "/dev/full: cannot be written (No space left on device); name a folder with free")


def test_failed_append_leaves_the_journal_as_before(tmp_path, monkeypatch):
    def half(descriptor, data):
        if len(data) < 20:
            raise OSError(28, "No space left on device")
        return write_some(descriptor, data[: len(data) // 2])

    write_some = os.write
    with Journal(tmp_path / "journal") as journal:
        journal.append({"n": 1})
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", half)
            with pytest.raises(ResultsError, match="No space left"):
                journal.append({"n": "x" * 100})
        journal.append({"n": 2})
    assert [record["n"] for record in read_journal(tmp_path / "journal")] == [1, 2]


def test_journal_in_an_impossible_place(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (
        tmp_path / "file" / "journal",
        tmp_path / "file" / "a" / "j",
        Path("/proc/no/journal"),
        tmp_path,
    ):
        with pytest.raises(ResultsError) as caught:
            Journal(path)
        assert_one_sentence(caught.value, f"{path}: cannot be opened (", "; name a folder with free space")
