"""The page's table in other places, read by `kedro run --pipeline=data_processing` with the page's YAML."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import mlflow
import polars as pl
import pytest
from click.testing import CliRunner, Result
from kedro.framework.startup import bootstrap_project

from fraud_kedro.champion.bundle import DataRecord
from fraud_kedro.cli import cli

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Page:
    """The code blocks of docs/your_table.md."""

    blocks: tuple[tuple[str, str], ...]

    def file(self, name: str) -> str:
        """The block that is a whole file."""
        (found,) = (text for _, text in self.blocks if text.startswith(f"# {name}\n"))
        return found

    def containing(self, *words: str) -> str:
        """The one block with all these words."""
        (found,) = (text for _, text in self.blocks if all(word in text for word in words))
        return found


@pytest.fixture(scope="session")
def page(request) -> Page:
    text = (request.config.rootpath / "docs" / "your_table.md").read_text(encoding="utf-8")
    return Page(tuple(_BLOCK.findall(text)))


@dataclass(frozen=True)
class Environment:
    """An environment `mine` in a configuration of its own, and the command that runs in it."""

    root: Path
    conf: Path
    page: Page

    def write(self, file: str, text: str) -> None:
        target = self.conf / file
        target.parent.mkdir(exist_ok=True)
        target.write_text(text, encoding="utf-8")

    def use(self, entry: str, credentials: str = "") -> None:
        """Put the page's entry in the place of the one in its whole catalog."""
        above = self.page.file("conf/mine/catalog.yml").split("raw_transactions:")[0]
        self.write("mine/catalog.yml", above + entry)
        self.write("local/credentials.yml", credentials)
        # An environment's own credentials count; `local` is read only where no environment is named.
        self.write("mine/credentials.yml", credentials)

    def run(self) -> Result:
        arguments = ["--conf-source", str(self.conf), "--env", "mine", "--pipelines", "data_processing"]
        try:
            return CliRunner().invoke(cli.commands["run"], arguments)
        finally:
            # A command's process would end the run, which is opened anew for each node.
            while mlflow.active_run():
                mlflow.end_run()

    def transactions(self) -> pl.DataFrame:
        """What a run that must succeed makes of the table."""
        result = self.run()
        assert result.exit_code == 0, result.output
        return pl.read_parquet(self.root / "02_intermediate" / "transactions.parquet")

    def refusal(self) -> str:
        """The one line of a run that must fail."""
        result = self.run()
        assert result.exit_code == 1
        (line,) = [line for line in result.output.splitlines() if line.startswith("Error: ")]
        assert "Traceback" not in result.output
        assert not (self.root / "02_intermediate").exists()
        return line

    @property
    def source(self) -> tuple[str, str]:
        record = DataRecord.model_validate_json((self.root / "03_primary" / "data_record.json").read_text())
        assert record.source.kind == "real"
        return record.source.name, record.source.location


@pytest.fixture
def purchases(page, tmp_path, monkeypatch) -> pl.DataFrame:
    """The page's made-up table, as it is in its CSV."""
    monkeypatch.setenv("FRAUD_ROOT", str(tmp_path))
    exec(page.file("make_purchases.py"), {})
    return pl.read_csv(tmp_path / "01_raw" / "purchases.csv")


@pytest.fixture(scope="session")
def mlflow_store(tmp_path_factory, _empty_registry) -> Iterator[str]:
    """One for all: MLflow takes seconds to make its tables, and this process keeps to the first it sees."""
    store = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    shutil.copy(_empty_registry, store)
    before = mlflow.get_tracking_uri()
    yield f"sqlite:///{store}"
    mlflow.set_tracking_uri(before)


@pytest.fixture
def environment(page, purchases, request, tmp_path, tmp_path_factory, monkeypatch, mlflow_store):
    project = request.config.rootpath
    conf = tmp_path_factory.mktemp("conf")
    shutil.copytree(project / "conf" / "base", conf / "base")
    (conf / "local").mkdir()
    monkeypatch.chdir(project)
    bootstrap_project(project)
    monkeypatch.setenv("FRAUD_MLFLOW_TRACKING_URI", mlflow_store)
    for name in ("MLFLOW_RUN_ID", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    made = Environment(tmp_path, conf, page)
    for name in ("catalog.yml", "parameters.yml"):
        made.write(f"mine/{name}", page.file(f"conf/mine/{name}"))
    return made


@pytest.fixture
def assert_same(purchases) -> Callable[[pl.DataFrame], None]:
    """A function that sees whether the transactions are the page's table, value by value."""

    def check(found: pl.DataFrame) -> None:
        seconds = pl.col("bought_at").str.to_datetime("%Y-%m-%dT%H:%M:%SZ").dt.epoch("s")
        expected = purchases.with_columns(seconds)
        # A query may give rows in any order.
        found = found.sort("purchase_id")
        assert set(found.columns) == set(expected.columns)
        for column in expected.columns:
            assert found[column].to_list() == expected[column].to_list(), column

    return check
