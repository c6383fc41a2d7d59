"""Features may be null: retention takes them away and leaves the rest of the row."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_FEATURES = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Let features be null."""
    with op.batch_alter_table("predictions") as table:
        table.alter_column("features", existing_type=_FEATURES, nullable=True)


def downgrade() -> None:
    """Fill what is null with an empty object."""
    op.execute("UPDATE predictions SET features = '{}' WHERE features IS NULL")
    with op.batch_alter_table("predictions") as table:
        table.alter_column("features", existing_type=_FEATURES, nullable=False)
