"""The page of several bundles: every machine's verdicts, who signed, and nothing of a bundle that does not hold."""

import re
import shutil

import pytest

from fixtures.matrix import load_matrix
from fixtures.verify import bundle, check, signing, world
from fixtures.verify.__main__ import main
from suites.meta.harness import bundles
from suites.meta.harness.inner import ROOT
from suites.meta.harness.journals import ORIGIN, line, record
from suites.meta.unit.test_page import evidence_of

# What the second machine shows otherwise than the first.
BROKEN, SOUND = bundles.PASSES, bundles.FAILS
HOSTILE = "<script>x</script>"


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A folder with a.bundle, signed, of a machine with AMX, and b.bundle, unsigned, of one with AVX2."""
    folder = tmp_path_factory.mktemp("pair")
    for name in "ab":
        (folder / name).mkdir()
    shutil.copytree(ROOT / "baselines", folder / "baselines")
    bundles.keys(folder)
    bundles.journal(folder / "a", folder / "baselines", machine="xeon-with-amx")
    run = bundles.Run(folder / "b", folder / "baselines", machine="epyc-with-avx2", isa="avx2")
    run.test("generation", BROKEN, bundles.generated(past_window=4900.0))
    run.test("generation", SOUND, bundles.generated())
    run.close()
    for name, key in (("a", folder / "owner.pem"), ("b", None)):
        bundle.write(folder / f"{name}.bundle", folder / name / "journal.jsonl", folder / "baselines", key=key)
    return folder


def verified(*paths, keys=()):
    return [check.verify(path, keys) for path in paths]


def fields(html, machine):
    """{model: words of its fields} of a machine's rows."""
    rows = re.findall(rf'<tr data-family="\w+" data-machine="{machine}">(.*?)</tr>', html, re.DOTALL)
    return {re.search('<th scope="row">([^<]*)<', row)[1]: re.findall(r'">([A-Z ]+)<small>', row) for row in rows}


def test_both_machines_stand_in_the_matrix_with_their_own_verdicts(pair):
    html = world.page_of(verified(pair / "a.bundle", pair / "b.bundle"))
    assert fields(html, "xeon-with-amx")["llama-2-7b"][0] == "PASS"
    assert fields(html, "epyc-with-avx2")["llama-2-7b"] == ["FAIL"]
    assert fields(html, "xeon-with-amx")["qwen2-7b"] == ["FAIL"]
    assert fields(html, "epyc-with-avx2")["qwen2-7b"] == ["PASS"]
    for level in ("amx", "avx2"):
        assert f"<small>{level}</small></th>" in html
    assert 'Other verdicts on other machines <span class="number">2</span>' in html
    assert {f"{BROKEN} on {name}" for name in ("xeon-with-amx", "epyc-with-avx2")} <= evidence_of(html).keys()
    assert '<option value="epyc-with-avx2">' in html


def test_each_machine_says_who_signed_and_what_was_derived(pair):
    owner = signing.public_key(pair / "owner.pub")
    html = world.page_of(verified(pair / "a.bundle", keys=[owner]) + verified(pair / "b.bundle"))
    assert f"signature: <b>owner.pub, key {owner.id[:16]}</b>" in html
    assert "signature: <b>unsigned</b>" in html
    assert "a CPU" in html
    assert "5 of 6 verdicts derived anew from measurements" in html
    assert "2 of 2 verdicts derived anew from measurements" in html
    assert f"key {owner.id[:16]}, not checked" in world.page_of(verified(pair / "a.bundle"))


@pytest.mark.parametrize(
    ("run", "named"),
    [
        ({"fingerprint": {"cpu": "a CPU"}, "devices": {"cuda": "a card"}}, ["a card"]),
        ({"fingerprint": {"cpu": "a CPU"}, "devices": {"cpu": "cpu"}}, ["a CPU"]),
        ({"fingerprint": 1, "devices": ["a card"]}, []),
        ({}, []),
    ],
)
def test_a_machine_is_named_by_its_devices_or_its_processor(run, named):
    assert check.Verified("a.bundle", runs=[run, run]).hardware == named


def forgery(pair, change, path):
    files = bundles.with_records(bundles.archive.read(pair / "b.bundle"), change)
    return bundles.made(path, files)


def test_a_bundle_that_does_not_hold_is_named_and_none_of_its_verdicts_is_shown(pair, tmp_path):
    def better(records):
        for found in records:
            if found.get("cell") == BROKEN:
                found.update(verdict="PASS")

    forged = verified(pair / "a.bundle", forgery(pair, better, tmp_path / "forged.bundle"))
    html = world.page_of(forged)
    assert "DOES NOT HOLD" in html
    assert "its verdict is PASS, and FAIL follows from its measurements" in html
    assert "epyc-with-avx2" not in html
    assert fields(html, "xeon-with-amx")
    alone = world.page_of(forged[1:])
    assert "<b>0</b> tests of <b>0</b> cells" in alone
    assert "No test failed" not in alone


@pytest.mark.parametrize("change", [{"seconds": "x"}, {"finished": 5}, {"metrics": {"x": 1}}, {"options": [1]}])
def test_records_that_no_page_can_show_are_a_problem_of_their_bundle(pair, tmp_path, change):
    path = forgery(pair, lambda records: records[1].update(change), tmp_path / "odd.bundle")
    found = verified(pair / "a.bundle", path)
    html = world.page_of(found)
    assert "epyc-with-avx2" not in html
    assert found[1].problems
    assert not found[0].problems


def test_what_a_bundle_says_is_text_and_never_markup(pair, tmp_path):
    def hostile(records):
        for found in records:
            found["machine"] = HOSTILE
            if found["kind"] == "run":
                found |= {"commit": HOSTILE, "versions": {HOSTILE: HOSTILE}, "numerics": {"cpu": HOSTILE}}
            if found["kind"] == "test":
                found["metrics"] = {HOSTILE: [HOSTILE, None, HOSTILE]} | found["metrics"]
                found["options"] = {HOSTILE: HOSTILE}

    found = verified(forgery(pair, hostile, tmp_path / "hostile.bundle"))
    assert not found[0].problems, "none of it decides a verdict"
    html = world.page_of(found)
    assert "&lt;script&gt;x" in html
    assert HOSTILE not in html + "".join(evidence_of(html).values())


def test_the_same_bundles_give_the_same_bytes_in_whatever_order(pair):
    paths = pair / "a.bundle", pair / "b.bundle"
    assert world.page_of(verified(*paths)) == world.page_of(verified(*paths[::-1]))


def test_days_left_are_those_of_the_last_run_whatever_day_it_is(pair, tmp_path):
    def older(records):
        for found in records:
            found |= {"date": "2026-11-02"} if "date" in found else {}

    files = bundles.with_records(bundles.archive.read(pair / "a.bundle"), older)
    html = world.page_of(verified(bundles.made(tmp_path / "older.bundle", files)))
    assert "(210 days left on 2026-11-02)" in evidence_of(html)[f"{bundles.WAIVED} on xeon-with-amx"]


def test_bundles_of_one_machine_have_names_of_their_own(pair, tmp_path):
    again = [tmp_path / "again.bundle", tmp_path / "x" / "again.bundle"]
    again[1].parent.mkdir()
    for path in again:
        shutil.copy(pair / "b.bundle", path)
    html = world.page_of(verified(pair / "b.bundle", *again))
    labels = ["b.bundle", "again.bundle", "again.bundle"]
    names = [rf"epyc-with-avx2 \({label}\)" for label in labels]
    assert [len(fields(html, name)) for name in (*names[:2], f"{names[2]} 2")] == [2, 2, 2]


def test_the_page_asks_the_network_for_nothing_and_lies_beside_the_table(pair, tmp_path, capsys):
    assert main([str(pair / "a.bundle"), str(pair / "b.bundle"), "--page", str(tmp_path / "page")]) == 0
    assert f"{tmp_path}/page/index.html" in capsys.readouterr().out
    html = (tmp_path / "page/index.html").read_text()
    assert not re.search(r"""(?:src|href)=["'](?!#)|@import|url\(|https?://""", html)
    assert "| b.bundle | unsigned | epyc-with-avx2: a CPU |" in (tmp_path / "page/verified.md").read_text()
    (tmp_path / "file").write_text("")
    assert main([str(pair / "b.bundle"), "--page", str(tmp_path / "file")]) == 2
    assert "name another folder with --page" in capsys.readouterr().err


def test_two_times_a_thousand_cells_stay_below_three_megabytes():
    suites, lines = ("generation", "generate", "dispatch", "latency"), [line(check=f"check{n}") for n in range(16)]
    cells = load_matrix().all_cells()
    found = []
    for name in ("a", "b"):
        records = [record(suite, cell.id, lines=lines) for cell in cells for suite in suites]
        tests = {entry["nodeid"]: entry for entry in records}
        found.append(check.Verified(f"{name}.bundle", runs=[{**ORIGIN, "machine": name}], tests=tests))
    assert len(world.page_of(found).encode()) * max(1, 1000 / len(cells)) < 3e6
