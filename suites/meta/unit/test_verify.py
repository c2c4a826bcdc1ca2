"""A bundle holds as it was made, and every way of changing it is found and named."""

import ast
import datetime
import io
import json
import lzma
import math
import random
import shutil
import tarfile

import pytest

from fixtures.checks.evidence import CHECKS
from fixtures.io import bounded
from fixtures.matrix import load_matrix
from fixtures.results import read_journal
from fixtures.verify import archive, bundle, check, manifest, signing, table
from fixtures.verify.__main__ import main
from suites.meta.harness import bundles
from suites.meta.harness.inner import ROOT

PASSES, WAIVED = bundles.node("generation", bundles.PASSES), bundles.node("generation", bundles.WAIVED)
TRACED = bundles.node("dispatch", bundles.TRACED)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A folder with baselines, a journal, two pairs of keys, and a bundle signed by the owner: a.bundle."""
    folder = tmp_path_factory.mktemp("good")
    accepted = folder / "baselines/cpu/amx/dispatch"
    accepted.mkdir(parents=True)
    shutil.copy(ROOT / "baselines/waivers.toml", folder / "baselines")
    shutil.copy(ROOT / f"baselines/cpu/amx/dispatch/{bundles.TRACED}.json", accepted)
    bundles.keys(folder), bundles.keys(folder, "other")
    bundles.journal(folder, folder / "baselines")
    bundle.write(folder / "a.bundle", folder / "journal.jsonl", folder / "baselines", key=folder / "owner.pem")
    return folder


@pytest.fixture
def files(good):
    """The good bundle's files, to be changed."""
    return archive.read(good / "a.bundle")


@pytest.fixture
def owner(good):
    return [signing.public_key(good / "owner.pub")]


def forged(good, files, sign=True):
    """What comes of a bundle with changed files, whose manifests were made anew and signed by somebody else."""
    path = bundles.made(good / "forged.bundle", files, good / "other.pem" if sign else None)
    return check.verify(path, [signing.public_key(good / "other.pub")] if sign else [])


def sentences(found):
    return "\n".join(found.problems)


# -- a good one ----


def test_a_good_bundle_holds_and_every_verdict_is_derived_anew(good, owner):
    found = check.verify(good / "a.bundle", owner)
    assert not found.problems, sentences(found)
    assert (found.signed, found.replayed) == ("owner.pub", 5)
    assert found.counts == {"PASS": 3, "WAIVED": 1, "FAIL": 1, "UNSUPPORTED": 1}
    assert found.claimed - 6 == sum(map(len, found.missing.values())), "claimed tests without a record are known"


def test_a_cell_of_another_engine_is_derived_anew_and_held_against_the_claims_of_that_engine(good, tmp_path):
    run = bundles.Run(tmp_path, good / "baselines")
    run.test("generation", f"{bundles.PASSES}-eager", bundles.generated())
    bundle.write(tmp_path / "e.bundle", run.close(), good / "baselines")
    found = check.verify(tmp_path / "e.bundle")
    assert not found.problems, sentences(found)
    assert found.replayed == 1
    assert {cell.rpartition("-")[2] for cells in found.missing.values() for cell in cells} == {"eager"}


def test_the_same_journal_gives_the_same_bytes(good, tmp_path):
    arguments = good / "journal.jsonl", good / "baselines"
    bundle.write(tmp_path / "b.bundle", *arguments, key=good / "owner.pem")
    assert (tmp_path / "b.bundle").read_bytes() == (good / "a.bundle").read_bytes()


def test_no_private_path_and_no_secret_is_in_a_bundle(good, tmp_path, monkeypatch):
    monkeypatch.setenv("OWN_TOKEN", "xyzzy-secret")
    text = (good / "journal.jsonl").read_text().replace("a text", f"xyzzy-secret {ROOT}/x /home/someone/y")
    (tmp_path / "journal.jsonl").write_text(text)
    bundle.write(tmp_path / "b.bundle", tmp_path / "journal.jsonl", good / "baselines")
    files = archive.read(tmp_path / "b.bundle")
    held = b"".join(files[name] for name in (bundle.JOURNAL, bundle.ENVIRONMENT))
    for private in ("xyzzy-secret", str(ROOT), "someone", "/opt/x"):
        assert private.encode() not in held
    assert not check.verify(tmp_path / "b.bundle").problems


def test_the_manifests_are_statements_that_tools_know(files):
    verdicts, result = (json.loads(signing.opened(name, files[name]).payload) for name in manifest.TYPES)
    assert verdicts["_type"] == result["_type"] == "https://in-toto.io/Statement/v1"
    assert result["predicateType"] == "https://in-toto.io/attestation/test-result/v0.1"
    assert result["predicate"]["result"] == "FAILED"
    assert PASSES in result["predicate"]["passedTests"]
    assert verdicts["predicate"]["unsupported"] == [bundles.node("generation", bundles.UNSUPPORTED)]
    assert {entry["name"] for entry in verdicts["subject"]} == files.keys() - manifest.TYPES.keys()


def test_several_bundles_make_one_table(good, tmp_path, capsys):
    paths = [good / "a.bundle", bundles.made(tmp_path / "b.bundle", archive.read(good / "a.bundle"))]
    assert main([*map(str, paths), "--page", str(tmp_path)]) == 0
    assert "| b.bundle | unsigned | a-cpu: a CPU |" in (tmp_path / "verified.md").read_text()
    assert "unsigned: nothing says who ran it" in capsys.readouterr().out


def test_a_bundle_is_made_of_an_existing_journal(good, tmp_path, capsys):
    made = str(tmp_path / "c.bundle")
    assert main(["bundle", str(good / "journal.jsonl"), made, "--baselines", str(good / "baselines")]) == 0
    assert main([made]) == 0
    assert main(["bundle", str(tmp_path / "none.jsonl"), made]) == 2
    assert main([made, "--key", str(good / "owner.pem")]) == 2
    assert "is no public Ed25519 key" in capsys.readouterr().err


# -- records changed, manifests left as they were ----


def unmade(good, files):
    path = good / "unmade.bundle"
    path.write_bytes(archive.pack(files))
    return sentences(check.verify(path))


def record_of(records, nodeid):
    return next(record for record in records if record.get("nodeid") == nodeid)


def test_a_changed_verdict_is_found_by_its_digest(good, files):
    problems = unmade(good, bundles.with_records(files, lambda rs: record_of(rs, WAIVED).update(verdict="PASS")))
    assert f"{WAIVED}: verdicts.dsse.json has WAIVED, its record PASS" in problems
    assert "journal.jsonl is not the one that verdicts.dsse.json has the digest of" in problems


def test_a_measurement_moved_by_one_unit_in_the_last_place_is_found_by_its_digest(good, files):
    def nudge(records):
        reduced = record_of(records, PASSES)["evidence"]["values"]
        values = next(value["values"] for value in reduced if isinstance(value, dict) and "values" in value)
        values[0] = math.nextafter(values[0], 2.0)

    assert f"{PASSES}: verdicts.dsse.json has another record" in unmade(good, bundles.with_records(files, nudge))


def test_added_removed_and_swapped_files_are_named(good, files):
    added = {**files, "baselines/cpu/amx/generation.json": b"{}"}
    assert "baselines/cpu/amx/generation.json is not in verdicts.dsse.json: it was added" in unmade(good, added)
    removed = {name: content for name, content in files.items() if name != "matrix/models.toml"}
    assert "matrix/models.toml is in verdicts.dsse.json and not in the bundle: it was removed" in unmade(good, removed)
    assert "holds extra.txt, which belongs to no bundle" in unmade(good, {**files, "extra.txt": b"x"})
    assert "has no journal.jsonl" in unmade(good, {k: v for k, v in files.items() if k != bundle.JOURNAL})


# -- everything made anew, and signed by somebody else ----


def test_a_forgery_is_signed_by_another_key(good, files, owner):
    path = bundles.made(good / "forged.bundle", files, good / "other.pem")
    assert "by none of the keys owner.pub" in sentences(check.verify(path, owner))
    assert "is unsigned" in sentences(check.verify(bundles.made(good / "forged.bundle", files), owner))
    envelope = json.loads(files["verdicts.dsse.json"])
    envelope["signatures"][0]["sig"] = envelope["signatures"][0]["sig"][::-1].replace("=", "A")[:86] + "=="
    files["verdicts.dsse.json"] = json.dumps(envelope, indent=1, sort_keys=True).encode() + b"\n"
    path.write_bytes(archive.pack(files))
    assert sentences(check.verify(path, owner))


FORGERIES = {
    "verdict": (
        lambda rs: record_of(rs, WAIVED).update(verdict="PASS"),
        f"{WAIVED}: its verdict is PASS, and WAIVED follows from its measurements",
    ),
    "line": (
        lambda rs: record_of(rs, PASSES)["lines"][0].update(measured="40 x LlamaDecoderLayer"),
        f"{PASSES}: its line optimised says PASS (40 x LlamaDecoderLayer, value 0.0)",
    ),
    "end of a long line": (
        lambda rs: record_of(rs, PASSES)["lines"][0].update(measured="x" * 300, allowed="anything"),
        "xxx, value 0.0, allowed 'anything'), and PASS (",
    ),
    "metric": (
        lambda rs: record_of(rs, PASSES)["metrics"].update(noise_ratio=[0.5, 0.1, "stock errors"]),
        f"{PASSES}: its metric noise_ratio is [0.5, 0.1, 'stock errors']",
    ),
    "waiver used": (
        lambda rs: record_of(rs, WAIVED).update(waivers=["another"]),
        f"{WAIVED}: it names the waivers another, and the bundle's waive it by ipex-cpu-sliding-window",
    ),
    "party": (lambda rs: rs[3].update(party="machine"), "it names machine at fault, and optimised stack follows"),
    "cell removed": (
        lambda rs: [record for record in rs if record.get("nodeid") != PASSES],
        f"{PASSES}: run aa11 was to run it, and there is no record of how it ended",
    ),
    "evidence removed": (
        lambda rs: record_of(rs, PASSES).pop("evidence") and None,
        f"{PASSES}: it cannot be replayed: its record (schema 3 of the journal) holds no evidence",
    ),
    "line left out": (
        lambda rs: record_of(rs, PASSES)["evidence"]["lines"].pop() and None,
        f"{PASSES}: a recorded check gave the line runs (PASS), which its record leaves out",
    ),
    "line of no check": (
        lambda rs: record_of(rs, PASSES)["evidence"]["lines"].append(
            [None, {"check": "logits", "verdict": "PASS", "measured": ""}]
        ),
        f"{PASSES}: it cannot be replayed: its line logits (PASS) comes from no recorded check",
    ),
    "reduction removed": (
        lambda rs: record_of(rs, PASSES)["evidence"]["calls"][0]["reduced"].pop() and None,
        f"{PASSES}: it cannot be replayed: the check asks for",
    ),
    "another check": (
        lambda rs: record_of(rs, PASSES)["evidence"]["calls"][0].update(check="os.system"),
        f"{PASSES}: it cannot be replayed: there is no check 'os.system'",
    ),
    "another day": (
        lambda rs: record_of(rs, WAIVED).update(date="2031-01-01"),
        f"{WAIVED}: its verdict is WAIVED, and FAIL follows from its measurements",
    ),
    "another cell": (
        lambda rs: record_of(rs, PASSES).update(cell=bundles.FAILS),
        f"{PASSES}: it is no test of a suite and a cell of the matrix",
    ),
    "sum": (
        lambda rs: rs[-1].update(verdicts={"PASS": 6}),
        "run aa11 ended with {'PASS': 6}, and its records add up to",
    ),
    "qualification": (
        lambda rs: rs.append({"schema": 3, "kind": "gate", "run": "aa11", "gate": "QUALIFIED", "platforms": ["cpu"]}),
        "run aa11 says QUALIFIED, and 761 claimed tests have no record",
    ),
}


@pytest.mark.parametrize("kind", FORGERIES)
def test_a_forged_journal_does_not_hold_although_it_was_made_anew_and_signed(good, files, kind):
    change, sentence = FORGERIES[kind]
    found = forged(good, bundles.with_records(files, change))
    assert sentence in sentences(found), sentences(found)
    assert "\n" not in "".join(map(bounded.sentence, found.problems))


def test_a_measurement_that_flips_a_verdict_is_found_by_the_check_itself(good, files):
    def tenfold(records):
        evidence = record_of(records, PASSES)["evidence"]
        kept = [result["at"] for name, _, result in evidence["calls"][0]["reduced"] if name == "relative_errors"]
        errors = evidence["values"][kept[3]]  # of the candidate, after the reference's own three
        errors["values"] = [10 * error for error in errors["values"]]

    problems = sentences(forged(good, bundles.with_records(files, tenfold)))
    assert f"{PASSES}: its verdict is PASS, and FAIL follows from its measurements" in problems


def test_a_swapped_baseline_is_named(good, files):
    name = f"baselines/cpu/amx/dispatch/{bundles.TRACED}.json"
    files[name] = files[name].replace(b'"layers": 2', b'"layers": 3')
    problems = sentences(forged(good, files))
    assert f"{TRACED}: the accepted trace that it was compared with is not that of the bundle's baselines" in problems
    assert f"{name}: layers is 3, the suite ships 2" in problems


@pytest.mark.parametrize(("name", "old", "new", "sentence"), [
    ("tolerances.toml", b"conformance = 3.0\n", b"conformance = 30.0\n",
     "tolerances.toml: ratio.fp32.conformance is 30.0, the suite ships 3.0"),
    ("waivers.toml", b"until = 2027-05-31", b"until = 2029-05-31",
     'waivers.toml: waivers.ipex-cpu-sliding-window.until is "2029-05-31", the suite ships "2027-05-31"'),
    ("waivers.toml", b"at_most = 10_000", b"at_most = 90_000",
     "waivers.toml: waivers.ipex-cpu-sliding-window.at_most is 90000, the suite ships 10000"),
    ("contract.toml", b'"finite", ', b"", "contract.toml: generation.checks is"),
    ("parameters.toml", b"new_tokens = 33 #", b"new_tokens = 3 #", "parameters.toml: generation.new_tokens is 3"),
    ("matrix/models.toml", b"ranks = 2", b"ranks = 4", "matrix/models.toml: models."),
])  # fmt: skip
def test_data_that_the_suite_does_not_ship_are_named(good, files, name, old, new, sentence):
    assert old in files[name]
    changed = {**files, name: files[name].replace(old, new, 1)}
    found = forged(good, changed)
    assert sentence in sentences(found), sentences(found)
    path = bundles.made(good / "own.bundle", changed)
    noted = check.verify(path, own_data=True)
    assert any(sentence in note for note in noted.notes), "with --own-data it is still named"


def test_a_journal_of_the_last_schema_holds_no_evidence(good, tmp_path, files):
    def older(records):
        for record in records:
            record["schema"] = 2
            for name in ("evidence", "date", "tests", "fingerprint"):
                record.pop(name, None)

    found = forged(good, bundles.with_records(files, older))
    assert f"{PASSES}: it cannot be replayed: its record (schema 2 of the journal) holds no evidence" in sentences(
        found
    )
    (tmp_path / "journal.jsonl").write_bytes(bundles.with_records(files, older)[bundle.JOURNAL])
    assert len([*read_journal(tmp_path / "journal.jsonl")]) == 8, "and is read as before"


# -- the archive ----


def tar_of(*entries):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, kind, content in entries:
            entry = tarfile.TarInfo(name)
            entry.type, entry.size, entry.linkname = kind, len(content), "/etc/passwd" if kind != b"0" else ""
            tar.addfile(entry, io.BytesIO(content))
    return lzma.compress(stream.getvalue())


ARCHIVES = {
    "bomb": (tar_of(("a", b"0", bytes(2**20))), "unpacks to more than 0 MiB; no bundle does"),
    "path above": (tar_of(("../x", b"0", b"")), "holds the path '../x', which leaves the archive"),
    "absolute path": (tar_of(("/etc/x", b"0", b"")), "holds the path '/etc/x', which leaves the archive"),
    "dots inside": (tar_of(("baselines/../../x", b"0", b"")), "which leaves the archive"),
    "link": (tar_of(("a", tarfile.SYMTYPE, b"")), "holds a, which is no plain file"),
    "other order": (tar_of(("b", b"0", b""), ("a", b"0", b"")), "or holds them in another order"),
    "no tar": (lzma.compress(b"x" * 2000), "is no archive of a bundle"),
    "no xz": (b"x" * 2000, "is damaged, or no bundle"),
    "nothing": (b"", "ends too early"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ARCHIVES)
def test_what_is_no_archive_of_a_bundle_is_refused(tmp_path, monkeypatch, kind):
    data, sentence = ARCHIVES[kind]
    if kind == "bomb":
        monkeypatch.setattr(archive, "LARGEST", 2**19)
    (tmp_path / "a.bundle").write_bytes(data)
    assert sentence in sentences(check.verify(tmp_path / "a.bundle"))


def test_an_archive_that_goes_on_or_ends_early_is_refused(good, tmp_path):
    data = (good / "a.bundle").read_bytes()
    for changed in (data + b"\0", data + data, data[:-1], data[:1000]):
        (tmp_path / "a.bundle").write_bytes(changed)
        assert check.verify(tmp_path / "a.bundle").problems


@pytest.mark.parametrize("signed", [True, False])
def test_no_edit_of_a_byte_is_accepted(good, files, tmp_path, signed):
    path = bundles.made(tmp_path / "a.bundle", files, good / "owner.pem" if signed else None)
    data, rng = path.read_bytes(), random.Random(5)
    assert not check.verify(path).problems
    raw = lzma.decompress(data)
    for number in range(210):
        changed = bytearray(data if number < 200 else raw)  # the file, then what is in it
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        path.write_bytes(changed if number < 200 else lzma.compress(changed, preset=0))
        assert check.verify(path).problems, f"edit {number} was accepted"


# -- what suites must do ----


def test_every_check_that_a_suite_calls_leaves_evidence():
    called = set()
    for path in (ROOT / "suites").glob("test_*.py"):
        tree = ast.parse(path.read_text())
        imported = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        names = {alias.name for node in imported if node.module.startswith("fixtures.checks") for alias in node.names}
        called |= {name for name in names if name.startswith(("check_", "not_timed", "metrics_of"))}
    assert len(called) > 10
    assert called <= CHECKS.keys(), f"mark with fixtures.checks.evidence.recorded: {sorted(called - CHECKS.keys())}"


def test_waivers_count_by_the_day_of_the_run(good):
    dates = {record["date"] for record in read_journal(good / "journal.jsonl") if record["kind"] == "test"}
    assert dates == {datetime.date.today().isoformat()}


def test_the_report_names_what_does_not_hold(good, files):
    found = forged(good, bundles.with_records(files, FORGERIES["verdict"][0]))
    lines = [*table.report(found)]
    assert any(line.startswith(f"DOES NOT HOLD: forged.bundle: {WAIVED}: its verdict is PASS") for line in lines)
    assert lines[-1].startswith("forged.bundle: ")


@pytest.mark.parametrize(("versions", "known"), [
    ({"transformers": "4.51.3"}, "4.51.3"),
    ({"transformers": "4.51.3", "stock transformers": "5.17.0"}, "5.17.0"),
])  # fmt: skip
def test_a_waiver_of_stock_engines_is_judged_by_the_stack_that_the_run_names_for_them(versions, known):
    scope = check.scope_of({"versions": versions}, load_matrix())
    assert scope.versions()["transformers"] == "4.51.3"
    assert scope.stock_versions()["transformers"] == known
