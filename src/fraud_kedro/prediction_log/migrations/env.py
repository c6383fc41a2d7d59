"""Alembic's entry: runs on the connection, and in the transaction, that `migrate` opened."""

from alembic import context

from fraud_kedro.prediction_log.migrate import VERSION_TABLE
from fraud_kedro.prediction_log.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
