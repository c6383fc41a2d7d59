"""The table of late labels."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "labels",
        sa.Column(
            "sequence", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), sa.Identity(), primary_key=True
        ),
        sa.Column("transaction_id", sa.String(128), nullable=False),
        sa.Column("label", sa.SmallInteger(), nullable=False),
        sa.Column("labelled_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("request_id", sa.String(128)),
    )
    op.create_index("labels_latest", "labels", ["transaction_id", "labelled_at", "sequence"])


def downgrade() -> None:
    """Drop the table and every label in it."""
    op.drop_table("labels")
