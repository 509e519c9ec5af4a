# SPDX-License-Identifier: Apache-2.0
"""The page: whole, alone, small, and safe to open whatever a run's words are."""

import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from plugins.scale import page, style
from plugins.scale.cells import Cell, Scale
from plugins.scale.panels import Group
from plugins.scale.table import table
from tests.scale import made

MODES = ("iptables", "nftables", "ebpf")
MOST_BYTES = 1_000_000
EMPTY = frozenset({"meta", "link", "br", "img", "line", "input", "hr"})
NASTY = "<script>alert('x')</script> & \"quoted\" $x^2$ $ {{ 7 * 7 }} \\frac"


class Reader(HTMLParser):
    """Elements, their attributes and all text; complains of what is not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data.replace("\N{NO-BREAK SPACE}", " ")


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


@pytest.fixture(scope="module")
def html() -> str:
    runs: list[Scale] = [made.scale(mode) for mode in MODES]
    runs[1] = made.without(made.without(runs[1], "rate", 5_000), "cold", 10_000, outcome="left out")
    return page.render(runs)


def test_it_is_one_small_file_that_needs_no_other(html: str) -> None:
    assert len(html.encode()) < MOST_BYTES
    reader = read(html)
    for tag, name, value in reader.attributes:
        if name in ("src", "srcset", "data", "action", "poster"):
            pytest.fail(f"<{tag} {name}={value}>")
        if name in ("href", "xlink:href"):
            assert value.startswith("#") or (tag == "a" and value.startswith("https://"))
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)
    assert "default-src 'none'" in html


def test_every_drawing_is_well_formed_and_every_id_its_own(html: str) -> None:
    drawings = re.findall(r"<svg\b.*?</svg>", html, re.DOTALL)
    assert len(drawings) > 10
    for drawing in drawings:
        ElementTree.fromstring(drawing)  # noqa: S314
    ids = Counter(value for _, name, value in read(html).attributes if name == "id")
    assert [name for name, count in ids.items() if count > 1] == []
    for _, name, value in read(html).attributes:
        if name == "href" and value.startswith("#"):
            assert value[1:] in ids


def test_text_in_drawings_is_text_and_colours_are_the_pages(html: str) -> None:
    assert re.search(r"<text[^>]*>10k</text>", html)
    assert re.search(r"<text[^>]*>limit</text>", html)
    assert not any(stand_in in html for stand_in in style.STAND_INS.values())
    for mode in MODES:
        assert f"stroke: var(--{mode})" in html
    assert "prefers-color-scheme: dark" in html
    assert "DejaVu" not in html
    # A rule of the drawing's own would hold for the whole page.
    assert html.count("<style") == 1


def test_every_variable_has_a_value(html: str) -> None:
    used = set(re.findall(r"var\(--([\w-]+)\)", html))
    assert used - {"mode"} <= set(re.findall(r"--([\w-]+):", html))


def test_it_says_what_was_measured_where(html: str) -> None:
    text = read(html).text
    for words in (
        "plumbline scale: iptables, nftables and ebpf",
        "kube-proxy 1.37.1, mode nftables",
        "kernel 6.12.1",
        "2 CPUs: AMD EPYC",
        "share of a direct connect 0.4 %",
        "✓ iptables bends – holds",
        "nftables, rate (last Service, uniform), at 5,000 Services: unfit: the limit itself moved by more than 5%",
        "left out: --budget=1m has no time",
        "Connecting to the last of 10,000 Services, beside the only one, takes",
        "limit of the same run: direct veth",
        "Scaled so that it meets mode iptables at 1 Service: compare its shape, not its height.",
    ):
        assert words in text, words


def test_a_column_that_would_say_nothing_is_left_out() -> None:
    cell = Cell("cold", "", 1, 2, "s", "less", (1.0,))
    columns, rows = table(Group((made.scale(),)), [(0, cell)])
    assert [column.name for column in columns] == ["Services", "endpoints", "median"]
    assert [[each.text for each in row] for row in rows] == [["1", "2", "1.00 s"]]
    failed = replace(cell, failures=3, censored=1, steal=0.2, note="so it is", values=(1.0, 2.0))
    columns, _ = table(Group((made.scale(), made.scale("ebpf"))), [(0, cell), (1, failed)])
    assert [column.name for column in columns] == [
        "mode",
        "Services",
        "endpoints",
        "median",
        "spread",
        "failed",
        "at deadline",
        "stolen",
        "remarks",
    ]


def test_a_gap_is_marked_where_a_cell_is_missing(html: str) -> None:
    assert "kube-proxy 1.37.1, mode nftables, last Service, 5,000 Services: unfit: the limit itself moved" in html


def test_a_control_that_does_not_hold_is_on_the_charts_that_stand_on_it() -> None:
    charts = ("first-packet", "rate", "memory")
    flat = made.only(replace(made.scale("ebpf"), mode="iptables"), *charts)
    html = page.render([flat])
    assert "✕ iptables bends – does not hold" in html
    found = dict(re.findall(r'<article class="chart" id="g0-([\w-]+)">(.*?)</article>', html, re.DOTALL))
    assert "Do not believe this chart" in found["first-packet"]
    assert "Do not believe this chart" in found["rate"]
    assert "Do not believe this chart" not in found["memory"]
    assert "Do not believe" not in page.render([made.only(made.scale("iptables"), *charts)])


def test_a_hermetic_run_is_labelled_and_has_charts_of_its_own() -> None:
    ipvs, iptables = made.scale("ipvs", hermetic=True), made.scale("iptables")
    html = page.render([made.only(ipvs, "rate"), made.only(iptables, "rate")])
    assert html.index('id="g0-rate"') < html.index('id="g1-rate"')
    native, hermetic = html.split('id="g1-', 1)
    assert "var(--ipvs)" not in native.partition("<nav")[2].replace("--mode: var(--ipvs)", "")
    assert "var(--iptables)" not in hermetic
    assert "none of it may be compared with a native kernel" in hermetic or "none of it may be compared" in html
    assert "(hermetic kernel)" in html
    assert "so each has charts of its own" in html


def test_words_of_a_run_are_words_on_the_page() -> None:
    run = made.scale(services=(1, 1_000))
    cells = tuple(
        replace(cell, series=NASTY, limited_by=NASTY if cell.limits else "", note=NASTY) for cell in run.cells[:1]
    )
    odd = Cell(NASTY, NASTY, 1, 2, "s", "less", (1.0, 2.0), note=NASTY)
    left = replace(odd, services=5, values=(), outcome="unfit", reason=NASTY)
    nasty = replace(run, system=NASTY, kernel=NASTY, cpu=NASTY, mode=NASTY, date=NASTY, cells=(*cells, odd, left))
    html = page.render([nasty, replace(nasty, harness={NASTY: 1.0})])
    assert "<script>alert" not in html
    assert html.count("<script") == 1
    read(html)
    for drawing in re.findall(r"<svg\b.*?</svg>", html, re.DOTALL):
        ElementTree.fromstring(drawing)  # noqa: S314


def test_a_run_of_next_to_nothing_has_a_page(tmp_path: Path) -> None:
    one = Cell("rate", "", 1, 2, "1/s", "more", (0.0,))
    none = Cell("cold", "", 1, 2, "s", "less", outcome="unfit", reason="no proxy of ours")
    for cells in ((), (one,), (none,), (one, none)):
        page.write([replace(made.scale(), cells=cells)], tmp_path / "scale.html")
        read((tmp_path / "scale.html").read_text())


def test_it_is_the_same_page_for_the_same_runs() -> None:
    again = [made.only(made.scale(mode), "rate", "first-packet", "hop") for mode in MODES]
    assert page.render(again) == page.render(again)


def test_two_runs_of_one_mode_can_be_told_apart() -> None:
    newer = made.only(made.scale("iptables"), "rate")
    older = made.only(replace(made.scale("iptables", seed=1), system="kube-proxy 1.36.0, mode iptables"), "rate")
    text = read(page.render([newer, older])).text
    assert text.count("kube-proxy 1.36.0, mode iptables") > 2
