from __future__ import annotations

import sqlite3

import pytest
import sqlalchemy as sa

from fraud_kedro.errors import TrainingError
from fraud_kedro.pipelines.tuning.options import TuningOptions


def test_the_folder_of_a_sqlite_storage_is_made(search, ramp, search_rows, tmp_path):
    options = TuningOptions(storage=f"sqlite:///{tmp_path / 'new' / 'folder' / 'studies.db'}")
    search(ramp(), search_rows, options, 1)
    assert (tmp_path / "new" / "folder" / "studies.db").is_file()


def test_a_commit_does_not_wait_for_the_disk(search, ramp, search_rows, kept, tmp_path):
    search(ramp(), search_rows, kept, 1)
    with sqlite3.connect(tmp_path / "studies.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


@pytest.mark.parametrize(
    "storage",
    [
        "postgresql+psycopg://ann:s3cret@127.0.0.1:1/studies",
        "nosuch://ann:s3cret@127.0.0.1/studies",
        "mysql+pymysql://ann:s3cret@127.0.0.1/studies",
        "ann:s3cret@127.0.0.1",
    ],
)
def test_a_storage_that_cannot_be_reached_is_told_without_its_password(search, ramp, search_rows, storage):
    with pytest.raises(TrainingError, match=r"127\.0\.0\.1.*cannot be opened.*tuning\.storage") as caught:
        search(ramp(), search_rows, TuningOptions(storage=storage), 1)
    assert "s3cret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_written_down_of_a_storage_has_no_password():
    options = TuningOptions(storage="postgresql+psycopg://ann:s3cret@db.example/studies")
    assert options.model_dump()["storage"] == "postgresql+psycopg://ann:***@db.example/studies"
    assert "s3cret" not in repr(options)
    assert "s3cret" in options.storage


def test_a_file_that_is_no_database_is_told(search, ramp, search_rows, tmp_path):
    file = tmp_path / "studies.db"
    file.write_text("no database" * 1000)
    with pytest.raises(TrainingError, match=r"studies\.db cannot be opened.*not a database"):
        search(ramp(), search_rows, TuningOptions(storage=f"sqlite:///{file}"), 1)


def test_a_folder_that_cannot_be_made_is_told(search, ramp, search_rows, tmp_path):
    (tmp_path / "file").write_text("in the way")
    options = TuningOptions(storage=f"sqlite:///{tmp_path / 'file' / 'below' / 'studies.db'}")
    with pytest.raises(TrainingError, match="cannot be opened"):
        search(ramp(), search_rows, options, 1)


def test_a_study_in_postgresql_is_resumed(search, ramp, search_rows, postgres):
    options = TuningOptions(storage=postgres.database("studies"))
    search(ramp(), search_rows, options, 2)
    algorithm = ramp()
    study = search(algorithm, search_rows, options, 4)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 4
    assert len(algorithm.fits) == 6


def test_a_user_who_may_not_make_tables_is_told_in_one_line(search, ramp, search_rows, postgres):
    url = postgres.database("locked")
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE ROLE guest LOGIN")
        connection.exec_driver_sql("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    engine.dispose()
    options = TuningOptions(storage=url.replace("fraud@", "guest@"))
    with pytest.raises(TrainingError, match=r"locked cannot be opened \(.*permission denied") as caught:
        search(ramp(), search_rows, options, 1)
    assert "\n" not in str(caught.value)


def test_a_database_that_goes_away_during_a_study_is_told(search, ramp, search_rows, kept, tmp_path):
    class Saboteur(ramp):
        def fit(self, *arguments, **settings):
            if len(self.fits) == 4:
                for file in tmp_path.glob("studies.db*"):
                    file.write_bytes(b"rubbish" * 10_000)
            return super().fit(*arguments, **settings)

    with pytest.raises(TrainingError, match=r"studies\.db cannot be opened"):
        search(Saboteur(), search_rows, kept, 3)
