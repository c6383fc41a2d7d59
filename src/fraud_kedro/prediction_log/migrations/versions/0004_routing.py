"""One answer a transaction, whichever model gives it; a counter that workers share."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make index and table."""
    answered = sa.text("role <> 'shadow'")
    op.create_index(
        "predictions_answered",
        "predictions",
        ["transaction_id"],
        unique=True,
        sqlite_where=answered,
        postgresql_where=answered,
    )
    generations = op.create_table(
        "generations",
        sa.Column("name", sa.String(16), primary_key=True),
        sa.Column("generation", sa.BigInteger(), nullable=False),
    )
    op.bulk_insert(generations, [{"name": "model", "generation": 0}])


def downgrade() -> None:
    """Drop both."""
    op.drop_table("generations")
    op.drop_index("predictions_answered", "predictions")
