"""The table of predictions."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "predictions",
        sa.Column("transaction_id", sa.String(128), primary_key=True),
        sa.Column("role", sa.String(16), primary_key=True),
        sa.Column("timestamp", sa.DateTime(timezone=True), nullable=False),
        sa.Column("event_time", sa.DateTime(timezone=True)),
        sa.Column("model_version", sa.String(128), nullable=False),
        sa.Column("probability", sa.Double(), nullable=False),
        sa.Column("prediction", sa.SmallInteger(), nullable=False),
        sa.Column("decision", sa.String(16), nullable=False),
        sa.Column("policy", sa.String(128), nullable=False),
        sa.Column("request_hash", sa.String(32), nullable=False),
        sa.Column("request_id", sa.String(128)),
        sa.Column("features", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
    )
    op.create_index("predictions_timestamp", "predictions", ["timestamp"])


def downgrade() -> None:
    """Drop the table and every prediction in it."""
    op.drop_table("predictions")
