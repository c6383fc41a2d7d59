from __future__ import annotations

import polars as pl
import pytest


def test_a_csv(environment, assert_same):
    assert_same(environment.transactions())
    assert environment.source == ("purchases", str(environment.root / "01_raw" / "purchases.csv"))


def test_a_compressed_csv(environment, purchases, page, assert_same):
    purchases.write_csv(environment.root / "01_raw" / "purchases.csv.gz", compression="gzip")
    environment.use(page.containing("purchases.csv.gz"))
    assert_same(environment.transactions())


def test_a_parquet_file(environment, purchases, page, assert_same):
    purchases.write_parquet(environment.root / "01_raw" / "purchases.parquet")
    environment.use(page.containing("purchases.parquet"))
    assert_same(environment.transactions())


def write_parts(purchases: pl.DataFrame, folder) -> None:
    folder.mkdir()
    purchases[:2000].write_parquet(folder / "2026-01.parquet")
    purchases[2000:].write_parquet(folder / "2026-02.parquet")


def test_a_folder_of_parquet_parts(environment, purchases, page, assert_same):
    write_parts(purchases, environment.root / "01_raw" / "purchases")
    entry = page.containing("01_raw/purchases\n")
    environment.use(entry)
    assert_same(environment.transactions())
    assert environment.source[0] == "purchases"
    environment.use(entry.replace("01_raw/purchases", "01_raw/purchases/2026-*.parquet"))
    assert_same(environment.transactions())
    assert environment.source[0] == "purchases"


def test_semicolons_and_decimal_commas(environment, purchases, page, assert_same):
    numbers = [c for c, dtype in purchases.schema.items() if dtype == pl.Float64]
    text = purchases.with_columns(pl.col(numbers).cast(str).str.replace(".", ",", literal=True))
    text.write_csv(environment.root / "01_raw" / "purchases_semicolon.csv", separator=";")
    environment.use(page.containing('separator: ";"'))
    assert_same(environment.transactions())


def with_parameters(environment, page, block: str) -> None:
    """The page's keys on top of those of its whole file."""
    import yaml

    whole = yaml.safe_load(page.file("conf/mine/parameters.yml"))
    for part, values in yaml.safe_load(block).items():
        for key, value in values.items():
            known = whole.setdefault(part, {})
            known[key] = {**known[key], **value} if isinstance(known.get(key), dict) else value
    environment.write("mine/parameters.yml", yaml.safe_dump(whole))


def test_a_pattern_of_timestamps(environment, purchases, page, assert_same):
    moment = pl.col("bought_at").str.to_datetime("%Y-%m-%dT%H:%M:%SZ")
    german = purchases.with_columns(moment.dt.strftime("%d.%m.%Y %H:%M:%S"))
    german.write_csv(environment.root / "01_raw" / "purchases.csv")
    with_parameters(environment, page, page.containing('format: "%d.%m.%Y %H:%M:%S"'))
    assert_same(environment.transactions())


def test_seconds_from_a_known_moment(environment, purchases, page):
    moment = pl.col("bought_at").str.to_datetime("%Y-%m-%dT%H:%M:%SZ")
    seconds = purchases.with_columns(moment.dt.epoch("s") - 1_767_225_600)
    seconds.write_csv(environment.root / "01_raw" / "purchases.csv")
    with_parameters(environment, page, page.containing("origin:", "format: seconds"))
    found = environment.transactions()
    assert found["bought_at"].to_list() == seconds["bought_at"].to_list()
    schema = (environment.root / "02_intermediate" / "resolved_schema.json").read_text()
    assert "2026-01-01T00:00:00Z" in schema


def rows_of(environment) -> list[int]:
    folder = environment.root / "03_primary"
    return [pl.read_parquet(folder / f"{part}.parquet").height for part in ("train", "validation", "test")]


def test_cuts_by_date_with_a_gap(environment, purchases, page):
    with_parameters(environment, page, page.containing("cuts: {"))
    environment.transactions()
    moment = purchases["bought_at"].str.to_datetime("%Y-%m-%dT%H:%M:%SZ")
    hour = pl.duration(hours=1)
    parts = purchases.select(
        (moment < pl.datetime(2026, 1, 19)).sum().alias("train"),
        ((moment >= pl.datetime(2026, 1, 19) + hour) & (moment < pl.datetime(2026, 1, 25)))
        .sum()
        .alias("validation"),
        (moment >= pl.datetime(2026, 1, 25) + hour).sum().alias("test"),
    )
    assert rows_of(environment) == list(parts.row(0))


def test_random_rows_by_class(environment, page):
    with_parameters(environment, page, page.containing("kind: stratified"))
    environment.transactions()
    assert rows_of(environment) == pytest.approx([3600, 900, 1500], abs=2)


def test_duplicates_at_other_times_are_kept_on_request(environment, purchases, page):
    later = purchases[:50].with_columns(
        purchases["bought_at"][50:100].alias("bought_at"),
        pl.format("copy{}", "purchase_id").alias("purchase_id"),
    )
    pl.concat([purchases, later]).write_csv(environment.root / "01_raw" / "purchases.csv")
    import yaml

    whole = yaml.safe_load(page.file("conf/mine/parameters.yml"))
    whole["schema"]["features"].remove("bought_at")
    environment.write("mine/parameters.yml", yaml.safe_dump(whole))
    assert environment.transactions().height == 6000
    whole.update(yaml.safe_load(page.containing("compare_time")))
    environment.write("mine/parameters.yml", yaml.safe_dump(whole))
    assert environment.transactions().height == 6050


def test_expectations_warn_and_the_run_goes_on(environment, purchases, page):
    odd = purchases.with_columns(
        pl.when(pl.int_range(pl.len()) < 60).then(5000.0).otherwise(pl.col("total")).alias("total")
    )
    odd.write_csv(environment.root / "01_raw" / "purchases.csv")
    with_parameters(environment, page, page.containing("*_risk_score"))
    environment.transactions()
    report = (environment.root / "08_reporting" / "validation.json").read_text()
    assert "lies outside 0 to 1000" in report


def test_the_page_shows_how_a_refusal_reads(environment, purchases, page):
    text = purchases.with_columns(pl.col("total", "is_fraud").cast(str))
    row = pl.int_range(pl.len())
    text.with_columns(
        pl.when(row == 2).then(pl.lit("12,5")).otherwise("total").alias("total"),
        pl.when(row == 4).then(None).otherwise("is_fraud").alias("is_fraud"),
    ).write_csv(environment.root / "01_raw" / "purchases.csv")
    line = environment.refusal()
    assert line.replace(str(environment.root), "data") == page.containing("Error: ").strip()


def test_a_bad_value_leaves_what_an_earlier_run_has_made(environment, purchases):
    environment.transactions()
    before = {file: file.stat().st_mtime_ns for file in environment.root.rglob("0[2-5]_*/*")}
    bad = purchases.with_columns(pl.lit(-1.0).alias("total"))
    bad.write_csv(environment.root / "01_raw" / "purchases.csv")
    result = environment.run()
    assert result.exit_code == 1
    assert "'total' is negative in 6,000 rows" in result.output
    assert {file: file.stat().st_mtime_ns for file in environment.root.rglob("0[2-5]_*/*")} == before
    assert len(before) >= 6
