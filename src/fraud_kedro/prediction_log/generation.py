"""A counter that says to every worker of every host: look which models are to serve."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from fraud_kedro.prediction_log.database import exclusive, mending
from fraud_kedro.prediction_log.tables import generations

_MODEL = "model"


def read_generation(engine: Engine) -> int:
    """Read the counter; takes a fraction of a millisecond.

    Raises
    ------
    PredictionLogError
        If the log cannot be read.
    """
    statement = sa.select(generations.c.generation).where(generations.c.name == _MODEL)
    with mending(engine.url), engine.execution_options(read_only=True).connect() as connection:
        return int(connection.scalar(statement) or 0)


def raise_generation(engine: Engine) -> int:
    """Count one up, and give what is counted then.

    Raises
    ------
    PredictionLogError
        If the log cannot be written.
    """
    statement = (
        sa.update(generations)
        .where(generations.c.name == _MODEL)
        .values(generation=generations.c.generation + 1)
        .returning(generations.c.generation)
    )
    with exclusive(engine) as connection:
        return int(connection.execute(statement).scalar_one())
