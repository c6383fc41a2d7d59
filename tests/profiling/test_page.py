from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest

from fraud_kedro.profiling.page import profile_page
from fraud_kedro.profiling.scan import profile_transactions
from fraud_kedro.schema import TransactionSchema

VOID = {"meta", "link", "br", "path", "rect"}
NASTY = "f_<script>alert('x')</script>&"


class Page(HTMLParser):
    """Elements, text and attributes of a page; every element must be closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def render(profile):
    return profile_page(profile, title="Transactions", source="table.parquet")


@pytest.fixture(scope="module")
def page(make_table, profiled):
    return Page(render(profiled(make_table(weight=np.full(4_000, 2.0)), duplicates=12)))


def test_the_page_shows_every_column_and_its_figures(page):
    for name in ("f_telling", "f_constant", "f_few", "paid", "when"):
        assert page.text.count(name) >= 2
    for text in ("4,000", "Label rate, weighted", "Duplicates left out", "Hour of the day", "f_constant."):
        assert text in page.text


def test_the_page_calls_nobody(page):
    assert page.all("script") == page.all("link") == page.all("img") == []
    for _, attributes in page.elements:
        assert not {"src", "onload", "onclick", "style"} & set(attributes)
        assert (attributes.get("href") or "#").startswith("#")
    policies = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]


def test_the_page_can_be_read_without_seeing_it(page):
    drawings = page.all("svg")
    assert len(drawings) == 5 + 3
    assert all(drawing["role"] == "img" and drawing["aria-label"] for drawing in drawings)
    assert any("fraud median" in drawing["aria-label"] for drawing in drawings)
    assert all("scope" in header for header in page.all("th"))
    anchors = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert {link["href"][1:] for link in page.all("a")} <= anchors
    assert {section["aria-labelledby"] for section in page.all("section")} <= anchors


def test_every_row_of_a_table_is_as_wide_as_its_header(make_table, profiled):
    page = render(profiled(make_table(frauds=0)))
    for table in re.findall(r"<table>.*?</table>", page, re.DOTALL):
        head, *bodies = re.findall(r"<t(?:head|body)>.*?</t(?:head|body)>", table, re.DOTALL)
        width = head.count("<th ")
        for body in bodies:
            rows = re.findall(r"<tr>.*?</tr>", body, re.DOTALL)
            spans = re.findall(r'rowspan="2"', body)
            cells = len(re.findall(r"<t[hd][ >]", body)) + len(spans)
            assert cells == width * len(rows)


def test_names_from_a_file_are_text_and_nothing_else(make_table, profiled):
    frame = make_table().with_columns(pl.lit(1.0).alias(NASTY))
    raw = profile_page(profiled(frame), title="<b>t</b>", source="</p><img src=x onerror=alert(1)>")
    page = Page(raw)
    assert page.all("script") == page.all("img") == page.all("b") == []
    assert NASTY in page.text
    assert "</p><img src=x onerror=alert(1)>" in page.text


@pytest.mark.parametrize("time", [{}, {"use": "raw"}, {"origin": "2020-01-01"}])
def test_an_odd_table_has_a_page(make_table, profiled, time):
    huge = np.where(np.arange(50) % 7 == 0, 1e300, -1e-300)
    odd = make_table(rows=50, frauds=1, when=np.full(50, 1e15), f_huge=huge, f_none=np.full(50, np.nan))
    page = Page(render(profiled(odd, **time)))
    assert "second 1e+15" in page.text
    assert "nan" not in page.text.replace("f_none", "")


def test_every_drawing_stays_inside_its_frame(make_table, profiled):
    for attributes in Page(render(profiled(make_table()))).all("path"):
        heights = [float(found) for found in re.findall(r"V([\d.-]+)", attributes["d"])]
        assert all(0 <= height <= 100 for height in heights)


def test_three_hundred_features_make_a_page_that_opens_quickly():
    rng = np.random.default_rng(0)
    features = {f"feature_{i:03}": rng.lognormal(size=2_000) for i in range(300)}
    frame = pl.DataFrame(
        {**features, "when": np.arange(2_000.0), "fraud": (rng.random(2_000) < 0.1).astype(np.int8)}
    )
    schema = TransactionSchema(
        time={"column": "when"}, amount="feature_000", label="fraud", features=["feature_*"]
    ).resolve(frame.columns)
    page = render(profile_transactions(frame.lazy(), schema, {"duplicates": 0}))
    assert page.count("<article") == 301
    assert len(page.encode()) < 2_000_000
