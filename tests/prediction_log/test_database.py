import pytest

from fraud_kedro.errors import PredictionLogError
from fraud_kedro.prediction_log.database import connect


@pytest.mark.parametrize("url", ["mysql://ann@host/log", "mssql://host/log"])
def test_a_database_of_another_kind_is_refused(url):
    with pytest.raises(PredictionLogError, match=r"should start with sqlite:/// or postgresql://"):
        connect(url, create=True)


def test_text_that_is_no_url_is_refused_without_repeating_it():
    with pytest.raises(PredictionLogError, match="not a SQLAlchemy URL") as caught:
        connect("s3cret", create=True)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_log_in_memory_is_refused(url):
    with pytest.raises(PredictionLogError, match="would lose every prediction"):
        connect(url, create=True)


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg", "postgres"])
def test_every_way_to_write_postgresql_means_the_driver_that_is_installed(scheme):
    engine = connect(f"{scheme}://ann@127.0.0.1/log", create=False)
    assert engine.url.drivername == "postgresql+psycopg"
    assert engine.url.query["connect_timeout"] == "5"
