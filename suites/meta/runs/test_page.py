"""The page on a run, and on several bundles, in a real browser: verdicts, filters, keyboard, widths, no request."""

import itertools

import pytest

from fixtures.checks.verdicts import VERDICTS
from fixtures.matrix import load_matrix
from fixtures.report.page import saved, write_page
from fixtures.verify.check import Verified
from fixtures.verify.world import page_of
from suites.meta.harness.browser import PROGRAM, Page
from suites.meta.harness.journals import ORIGIN, every_verdict, of_platforms, record, write

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(PROGRAM is None, reason="no Chromium here: install the package chromium"),
]
FIRST = "llama-2-7b-fp16-max1550-single"

# Contrast of each text with what is behind it, by WCAG 2's formula for relative luminance.
CONTRAST = """(() => {
  const lum = ([r, g, b]) => [r, g, b].map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const colour = node => rgb(getComputedStyle(node).backgroundColor);
  const behind = node => { for (; node; node = node.parentElement) { const c = colour(node);
    if (c.length < 4 || c[3] === 1) return c; } return colour(document.documentElement); };
  let worst = 21, where = "";
  for (const node of document.querySelectorAll("body *")) {
    if (!node.offsetParent || ![...node.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
    const [a, b] = [lum(rgb(getComputedStyle(node).color)), lum(behind(node))].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    if (ratio < worst) { worst = ratio; where = node.className + ": " + node.textContent.trim().slice(0, 40); }
  }
  return [worst, where];
})()"""
CUT = "document.documentElement.scrollWidth - innerWidth"
SHOWN = "[...document.querySelectorAll('[data-cell]')].filter(b => b.offsetParent).map(b => b.dataset.cell)"


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    return "file://" + str(write_page(write(folder / "journal.jsonl", every_verdict()), folder))


@pytest.fixture
def page(url):
    with Page(url) as opened:
        yield opened
        assert opened.complaints() == []
        assert opened.requests() == []


def test_every_verdict_is_shown(page):
    text = page.run("document.getElementById('matrix').innerText")
    assert [verdict for verdict in VERDICTS if verdict.replace("_", " ") not in text] == []


@pytest.mark.parametrize(("facet", "value", "left"), [
    ("verdict", "CRASHED", 1),
    ("family", "llama2", 9),
    ("precision", "int4", None),
    ("mode", "autotp", None),
])  # fmt: skip
def test_a_filter_shows_its_cells_and_stands_in_the_address(page, facet, value, left):
    page.run(f"(s => {{ s.value = '{value}'; s.dispatchEvent(new Event('change', {{bubbles: true}})) }})"
             f"(document.querySelector('select[name={facet}]'))")  # fmt: skip
    shown = page.run(SHOWN)
    cells = {cell.id: cell for cell in load_matrix().cells(["max1550"])}
    if facet == "family":
        assert {cells[id].model.family for id in shown} == {value}
    elif facet == "verdict":
        assert len(shown) == left
    else:
        assert {getattr(cells[id], facet) for id in shown} == {value}
    assert page.run("location.hash") == f"#{facet}={value}"


def test_an_address_with_a_filter_shows_the_same(url):
    with Page(f"{url}#verdict=CRASHED") as page:
        assert len(page.run(SHOWN)) == 1


def test_a_cell_opens_and_closes_by_keyboard(page):
    page.run(f"document.querySelector('[data-cell=\"{FIRST}\"]').focus()")
    page.press("ArrowRight", 39)
    second = page.run("document.activeElement.dataset.cell")
    assert second not in (None, FIRST)
    page.press("Enter", 13)
    page.wait("document.getElementById('cell').open")
    assert second in page.run("document.getElementById('evidence').innerText")
    page.press("Escape", 27)
    page.wait("!document.getElementById('cell').open")
    assert page.run("document.activeElement.dataset.cell") == second


@pytest.mark.parametrize(("width", "dark"), [*itertools.product((1280, 400), (False, True))])
def test_nothing_is_cut_and_every_text_can_be_read(page, width, dark, tmp_path):
    page.resize(width, 900)
    page.dark(dark)
    for script in ("0", f"location.hash = 'cell={FIRST}'"):
        page.run(script)
        page.wait("!location.hash || document.getElementById('cell').open")
        worst, where = page.run(CONTRAST)
        assert worst >= 4.5, where
        assert page.run(CUT) <= 0
    page.picture(tmp_path / "page.png")


def test_a_thousand_cells_are_there_within_a_second(tmp_path):
    cells = [cell.platform.name for cell in load_matrix().all_cells()]
    records = of_platforms(dict.fromkeys(cells), suites=("generation", "latency"))
    more = [{**r, "cell": f"{r['cell']}-{n}", "nodeid": f"{r['nodeid']}-{n}"} for n in range(9) for r in records]
    file = write_page(write(tmp_path / "journal.jsonl", (records + more)[: max(len(records), 2000)]), tmp_path)
    assert file.stat().st_size < 3e6
    with Page(f"file://{file}#cell={FIRST}") as page:
        page.wait("document.getElementById('cell').open")
        assert len(page.run(SHOWN)) + page.run("document.querySelectorAll('[data-cell]').length") >= 1000
        assert page.run("performance.getEntriesByType('navigation')[0].domInteractive") < 1000


def test_a_run_before_shows_first_what_differs(tmp_path):
    before = write(tmp_path / "before.jsonl", [record("generation", FIRST)])
    now = write(tmp_path / "now.jsonl", [record("generation", FIRST, "FAIL")])
    with Page(f"file://{write_page(now, tmp_path, before)}") as page:
        text = page.run("document.getElementById('differences').innerText")
        assert text.startswith("What differs from the run before\nNew failures 1")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The address of a page of three bundles: of two machines, and one that does not hold."""
    folder = tmp_path_factory.mktemp("world")
    found = [verified("xeon-with-amx"), verified("epyc-with-avx2", UNSUPPORTED="FAIL", PASS="WAIVED")]
    found.append(Verified("broken.bundle", signer="unsigned", problems=["is damaged, or no bundle"]))
    return "file://" + str(saved(page_of(found), folder / "index.html", "--page"))


def verified(machine, **others):
    """A bundle that holds, with a test of each verdict; `others` replace verdicts."""
    records = [entry | {"verdict": others.get(entry["verdict"], entry["verdict"])} for entry in every_verdict()]
    tests = {entry["nodeid"]: entry for entry in records}
    run = {**ORIGIN, "machine": machine, "started": "2026-11-28T03:06:32+00:00"}
    return Verified(f"{machine}.bundle", signer="unsigned", runs=[run], tests=tests, claimed=100)


def test_machines_stand_beside_each_other_and_one_can_be_chosen(world):
    with Page(world) as page:
        assert len(page.run(SHOWN)) == 2 * len(VERDICTS)
        page.run("(s => { s.value = 'epyc-with-avx2'; s.dispatchEvent(new Event('change', {bubbles: true})) })"
                 "(document.querySelector('select[name=machine]'))")  # fmt: skip
        assert {name.rpartition(" on ")[2] for name in page.run(SHOWN)} == {"epyc-with-avx2"}
        assert page.run("location.hash") == "#machine=epyc-with-avx2"
        page.run(f"document.querySelector('[data-cell=\"{FIRST} on epyc-with-avx2\"]').click()")
        page.wait("document.getElementById('cell').open")
        assert f"{FIRST} on epyc-with-avx2" in page.run("document.getElementById('evidence').innerText")
        for width, dark in itertools.product((1280, 400), (False, True)):
            page.resize(width, 900)
            page.dark(dark)
            for script in ("location.hash = ''", f"location.hash = 'cell={FIRST} on xeon-with-amx'"):
                page.run(script)
                page.wait("document.getElementById('cell').open === location.hash.startsWith('#cell')")
                worst, where = page.run(CONTRAST)
                assert worst >= 4.5, where
                assert page.run(CUT) <= 0
        assert "DOES NOT HOLD" in page.run("document.getElementById('machines').innerText")
        assert page.complaints() == page.requests() == []
