"""Views of a run: changes between two runs, validated models, and what CI systems read."""

import http.server
import json
import threading
from types import SimpleNamespace

import pytest

from fixtures.matrix import load_matrix
from fixtures.plugin import views
from fixtures.plugin.options import GRID_OPTIONS
from fixtures.report import changes, ci
from fixtures.report.validated import SIGNS, validated
from suites.meta.harness.journals import TIMES, every_verdict, line, of_platforms, record, view, write

MATRIX = load_matrix()
ONE = "llama-2-7b-fp16-max1550-single"
PUBLISHED = ["max1550", "max1100", "core-ultra", "b580"]


# -- changes ----


def kinds(before, now):
    first, second = ({r["nodeid"]: r for r in records} for records in (before, now))
    wrap = {id: changes.Test(r, {c.id: c for c in MATRIX.all_cells()}.get(r["cell"])) for id, r in first.items()}
    found = changes.changes(wrap, {id: changes.Test(r, None) for id, r in second.items()})
    return {kind: len(group) for kind, group in found.items()}


SLOW = {**TIMES, "fastest": [0.06, None, "s"], "ratio_to_stock": [1.0, None, "1"]}
BUSY = {**TIMES, "fastest": [0.06, None, "s"]}  # the stock model was as slow
HOST = "llama-2-7b-bf16-cpu-single"


@pytest.mark.parametrize(("before", "now", "found"), [
    (record("generation", ONE), record("generation", ONE), {}),
    (record("generation", ONE), record("generation", ONE, "FAIL"), {"new failure": 1}),
    (record("generation", ONE, "FAIL"), record("generation", ONE, "CRASHED"), {"still failing": 1}),
    (record("generation", ONE, "FAIL"), record("generation", ONE), {"fixed": 1}),
    (record("generation", ONE), record("generation", ONE, "WAIVED"), {"newly waived": 1}),
    (record("generation", ONE), record("generation", ONE, "NO_BASELINE"), {"not compared": 1}),
    (record("generation", ONE), record("generate", ONE), {"lost": 1, "new": 1}),
    (record("latency", HOST), record("latency", HOST, metrics=SLOW), {"slower": 1}),
    (record("latency", HOST), record("latency", HOST, metrics=SLOW, lines=[line()]), {"perhaps slower": 1}),
    (record("latency", HOST, lines=[line(check="screen")]),
     record("latency", HOST, "FAIL", metrics=SLOW, lines=[line("FAIL", "decode")]), {"new failure": 1, "slower": 1}),
    (record("latency", HOST), record("latency", HOST, "INCONCLUSIVE", metrics=SLOW,
     lines=[line("INCONCLUSIVE", "replicates"), line(check="decode")]), {"perhaps slower": 1, "not compared": 1}),
    (record("latency", HOST), record("latency", HOST, metrics=BUSY), {}),
    (record("latency", HOST, metrics=SLOW), record("latency", HOST), {"faster": 1}),
    (record("latency", HOST, metrics={"count_graphs": [0, None, "1"]}),
     record("latency", HOST, metrics={"count_graphs": [3, None, "1"]}), {"counts": 1}),
    (record("generation", ONE, metrics={"noise_ratio": [1.0, 0.02, ""]}),
     record("generation", ONE, metrics={"noise_ratio": [1.2, 0.02, ""]}), {"moved": 1}),
    (record("generation", ONE, metrics={"noise_ratio": [1.0, 0.1, ""]}),
     record("generation", ONE, metrics={"noise_ratio": [1.2, 0.1, ""]}), {}),
])  # fmt: skip
def test_changes_between_two_runs_have_their_kind(before, now, found):
    assert kinds([before], [now]) == found


LONGER = {"--platform": "max1550", "--weights": "auto", "--input-tokens": "1024"}


def operations(number, verdict="PASS"):
    return record(
        "dispatch", ONE, verdict, lines=[line(verdict, "operations", measured=f"{number} operations in 8 steps")]
    )


@pytest.mark.parametrize(("before", "now", "kind", "words"), [
    (record("latency", HOST), record("latency", HOST, metrics=SLOW, options=LONGER), "incomparable",
     "--input-tokens by default before, 1024 now"),
    (operations(732, "NO_BASELINE"), operations(790, "NO_BASELINE"), "dispatch", "operations 732 to 790"),
    (operations(732), operations(732), None, ""),
])  # fmt: skip
def test_what_was_measured_otherwise_and_what_is_dispatched_otherwise_is_named(tmp_path, before, now, kind, words):
    found = view(tmp_path, [now], before=[before]).changes
    assert [*found] == ([kind] if kind else [])
    assert all(words in change.text for group in found.values() for change in group)


def test_every_option_of_the_grid_makes_times_incomparable():
    assert {option for option, _ in GRID_OPTIONS.values()} <= {*changes.MEASURED_BY}


def test_two_boards_are_compared_and_what_differs_is_said_first(tmp_path, capsys):
    boards = [c.id for c in MATRIX.cells(["max1550"])][:3]
    before = write(tmp_path / "a.jsonl", [record("latency", cell) for cell in boards])
    after = [
        record("latency", c, metrics=TIMES | {"fastest": [t, None, "s"]})
        for c, t in zip(boards, (0.03, 0.033, 0.036), strict=True)
    ]
    other = write(tmp_path / "b.jsonl", [r | {"machine": "b-machine"} for r in after] + [record("generate", ONE)])
    other.write_text(
        other.read_text().replace("a-machine", "b-machine").replace('"torch": "2.8.0"', '"torch": "2.9.0"')
    )
    assert changes.main([str(before), str(other)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[:3] == [
        "3 tests before, 4 after; a-machine and b-machine",
        "before: torch 2.8.0 instead of 2.9.0",
        "time after over before: median 1.1, 1 to 1.2, of 3 tests",
    ]
    assert said[-1] == "3 tests are as they were", "one that is new is not among them"


@pytest.mark.parametrize(("now", "status", "words"), [
    ([record("generation", ONE)], 0, "1 tests are as they were"),
    ([record("generation", ONE, "FAIL")], 1, f"test_generation[{ONE}]: PASS to FAIL"),
    ([record("generate", ONE)], 2, "has no test in common with"),
])  # fmt: skip
def test_a_scheduler_can_act_on_the_status(tmp_path, capsys, now, status, words):
    before = write(tmp_path / "a.jsonl", [record("generation", ONE)])
    assert changes.main([str(before), str(write(tmp_path / "b.jsonl", now))]) == status
    assert words in "".join(capsys.readouterr())


# -- the published table ----


def claimed():
    """The specification's ticks as fields of the table, footnotes included."""
    for row in MATRIX.rows:
        notes = dict(row.footnotes)
        yield [
            (f"✓ [^{notes[c.key]}]" if c.key in notes else "✓") if c.key in row.ticks else "" for c in MATRIX.columns
        ]


def fields(lines):
    rows = [row.strip("|").split("|") for row in lines[2 : 2 + len(MATRIX.rows)]]
    return [[field.strip() for field in row[2:]] for row in rows]


def test_the_table_of_a_clean_run_is_that_of_the_claims(tmp_path):
    assert fields(validated(MATRIX, view(tmp_path, of_platforms(PUBLISHED)).tests)) == [*claimed()]


def test_one_failure_changes_its_fields_and_no_other(tmp_path):
    records = [r if r["cell"] != ONE else record("generation", ONE, "FAIL") for r in of_platforms(PUBLISHED)]
    found, clean = fields(validated(MATRIX, view(tmp_path, records).tests)), [*claimed()]
    differ = {
        (row, column)
        for row, line in enumerate(found)
        for column, field in enumerate(line)
        if field != clean[row][column]
    }
    assert differ == {(0, 0), (0, 2)}  # of Llama 2: FP16, and the Max Series
    assert found[0][0] == SIGNS["failed"][0]


@pytest.mark.parametrize(("verdict", "sign"), [("WAIVED", "✓ʷ"), ("INCONCLUSIVE", "?"), ("UNSUPPORTED", "u")])
def test_a_field_says_what_came_of_its_tests(tmp_path, verdict, sign):
    records = [r if r["cell"] != ONE else record("generation", ONE, verdict) for r in of_platforms(PUBLISHED)]
    assert fields(validated(MATRIX, view(tmp_path, records).tests))[0][0] == sign


def test_what_was_not_run_is_no_tick(tmp_path):
    assert fields(validated(MATRIX, view(tmp_path, of_platforms(["max1550"])).tests))[0][0] == "·"


# -- CI ----


def test_a_summary_has_failures_first_and_stays_below_its_limit(tmp_path):
    records = [
        record("generation", ONE, "FAIL", lines=[line("FAIL", measured="x" * 3 * 2**19)]),
        record("generate", ONE),
    ]
    text = ci.summary(view(tmp_path, records))
    assert "**1** FAIL" in text
    assert len(text.encode()) <= 2**20
    assert text.endswith("(cut: the journal has the rest)\n")


def test_an_annotation_is_one_escaped_line(tmp_path):
    failed = record("generation", ONE, "FAIL", lines=[line("FAIL", measured="50% off,\nthen: more")])
    [text] = ci.annotations(view(tmp_path, [failed]))
    assert text.startswith("::error file=suites/test_generation.py,title=FAIL generation ")
    assert "50%25 off,%0Athen: more" in text
    assert "\n" not in text


def test_ctrf_counts_every_test(tmp_path):
    results = json.loads(ci.ctrf(view(tmp_path, every_verdict(), expected=20)))["results"]
    counts = results["summary"]
    assert counts["tests"] == 20 == sum(counts[key] for key in ("passed", "failed", "skipped", "pending", "other"))
    assert {test["status"] for test in results["tests"]} == {"passed", "failed", "skipped", "other"}


def ended(path, **options):
    """(run, config) as the plugin has them at the end of a run with this journal."""
    names = ("report", "report_before", "markdown", "ctrf", "webhook")
    config = SimpleNamespace(getoption=lambda name: options.get(name) if name in names else None)
    run = SimpleNamespace(
        records=SimpleNamespace(journal=SimpleNamespace(path=path)), totals=SimpleNamespace(verdicts=[1])
    )
    run.selection, run.waivers = SimpleNamespace(matrix=MATRIX), SimpleNamespace(all=())
    return run, config


def test_a_run_writes_what_it_was_asked_for(tmp_path):
    journal, github = write(tmp_path / "j.jsonl", every_verdict()), tmp_path / "summary.md"
    wanted = {"report": tmp_path / "page", "markdown": tmp_path / "t.md", "ctrf": tmp_path / "c.json"}
    lines = [*views.write(*ended(journal, **wanted), {"GITHUB_STEP_SUMMARY": str(github), "GITHUB_ACTIONS": "true"})]
    assert all(file.is_file() for file in (tmp_path / "page/index.html", wanted["markdown"], wanted["ctrf"]))
    assert github.read_text().startswith("## Verdicts on a-machine")
    assert any(text.startswith("::error") for text in lines)


def test_a_folder_that_cannot_be_written_to_costs_the_view_alone(tmp_path):
    (tmp_path / "page").write_text("a file")
    lines = [*views.write(*ended(write(tmp_path / "j.jsonl", every_verdict()), report=tmp_path / "page"), {})]
    said = "cannot be written (File exists); the journal has everything, name another place"
    assert lines == [f"{tmp_path / 'page/index.html'}: {said}"]


@pytest.fixture
def listener():
    """A server on loopback; what it was sent."""
    sent = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            sent.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            """Say nothing."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port, sent
    server.shutdown()


def test_a_webhook_gets_counts_and_failures_and_its_secret_stays_unsaid(tmp_path, listener):
    port, sent = listener
    journal = write(tmp_path / "j.jsonl", [record("generation", ONE, "FAIL")])
    lines = [*views.write(*ended(journal, webhook=f"http://127.0.0.1:{port}/hook?token=s3cret"), {})]
    assert sent[0]["verdicts"] == {"FAIL": 1}
    assert [failure["verdict"] for failure in sent[0]["failures"]] == ["FAIL"]
    assert lines == ["posted to 127.0.0.1: 204"]


class Answers(http.server.BaseHTTPRequestHandler):
    """A server that is no use to who posts there."""

    def do_POST(self):
        if self.path == "/garbage":
            self.wfile.write(b"what?\r\n")
            return
        self.send_response(404 if self.path == "/lost" else 302)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, *_):
        """Say nothing."""


@pytest.mark.parametrize(("path", "words"), [
    ("/lost", "it answered 404"), ("/moved", "it answered 302"), ("/garbage", "BadStatusLine"),
    ("/s3cret with a blank", "InvalidURL"), (None, "URLError"),
])  # fmt: skip
def test_a_webhook_that_is_no_use_fails_no_run_and_stays_unsaid(tmp_path, path, words):
    server = http.server.HTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = 9 if path is None else server.server_port
    journal = write(tmp_path / "j.jsonl", [record("generation", ONE)])
    lines = [*views.write(*ended(journal, webhook=f"http://127.0.0.1:{port}{path or '/s3cret'}"), {})]
    server.shutdown()
    assert lines == [f"not posted to 127.0.0.1: {words}"]


@pytest.mark.parametrize("address", ["ftp://host/s3cret", "https:s3cret", "http://[s3cret", "http://host:s3cret/", ""])
def test_what_is_no_address_is_one_sentence_without_it(address, monkeypatch):
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    given = {"webhook": address, "report_before": None, "dist": "no"}
    with pytest.raises(pytest.UsageError, match="--webhook: this is no address that") as refused:
        views.check(SimpleNamespace(getoption=lambda name, default=None: given.get(name, default)))
    assert "s3cret" not in str(refused.value)


def test_views_of_many_processes_are_refused_beforehand():
    given = {"ctrf": "file", "dist": "load"}
    with pytest.raises(pytest.UsageError, match="--ctrf shows a run of one process; leave out xdist's -n"):
        views.check(SimpleNamespace(getoption=lambda name, default=None: given.get(name, default)))


@pytest.mark.parametrize("words", [["--webhook", "https://h/s3cret"], ["--webhook=https://h/s3cret"]])
def test_accepted_values_do_not_keep_the_address(words):
    kept = views.without_address(["-m", "llama2", *words, "--ctrf", "c.json"])
    assert "s3cret" not in str(kept)
    assert [*kept[:2], *kept[-2:]] == ["-m", "llama2", "--ctrf", "c.json"]
