"""Arrivals at the DICOM node, and destinations of results."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create the table of arrivals, and let jobs send."""
    op.create_table(
        "arrivals",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("uid", sa.String(200), nullable=False, unique=True),
        sa.Column("caller", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False, index=True),
        sa.Column("first", sa.Double(), nullable=False),
        sa.Column("last", sa.Double(), nullable=False),
        sa.Column("instances", sa.JSON(), nullable=False),
        sa.Column("left_out", sa.JSON(), nullable=False),
        sa.Column("problem", sa.Text()),
        sa.Column("study_id", sa.String(32), sa.ForeignKey("studies.id", ondelete="CASCADE"), index=True),
        sa.Column("answered", sa.Boolean(), nullable=False),
    )
    op.add_column("jobs", sa.Column("destination", sa.String(64)))
    op.add_column("jobs", sa.Column("problem", sa.Text()))
