"""Studies, their files and jobs."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the first tables."""
    op.create_table(
        "studies",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("key", sa.String(64), nullable=False, unique=True),
        sa.Column("content", sa.String(64), nullable=False),
        sa.Column("bundle", sa.String(200), nullable=False),
        sa.Column("bundle_key", sa.String(64), nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False, index=True),
        sa.Column("received", sa.Double(), nullable=False),
        sa.Column("finished", sa.Double()),
        sa.Column("files", sa.Integer(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("uid", sa.String(200)),
        sa.Column("patient_id", sa.String(200)),
        sa.Column("patient_name", sa.String(400)),
        sa.Column("study_date", sa.String(16)),
        sa.Column("verdict", sa.String(32), index=True),
        sa.Column("probability", sa.Double()),
        sa.Column("lesion_ml", sa.Double()),
        sa.Column("findings", sa.JSON()),
        sa.Column("divided_into", sa.JSON()),
        sa.Column("problem", sa.Text()),
        sa.Column("remedy", sa.Text()),
    )
    op.create_index("studies_of_one_uid", "studies", ["uid", "bundle"])
    op.create_index("studies_by_time", "studies", ["received"])
    study = sa.ForeignKey("studies.id", ondelete="CASCADE")
    op.create_table(
        "files",
        sa.Column("study_id", sa.String(32), study, primary_key=True),
        sa.Column("stored", sa.String(32), primary_key=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("study_id", sa.String(32), sa.ForeignKey("studies.id", ondelete="CASCADE"), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("run_after", sa.Double(), nullable=False),
        sa.Column("owner", sa.String(64)),
        sa.Column("started", sa.Double()),
        sa.Column("lease_until", sa.Double()),
        sa.Column("progress", sa.Integer(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
    )
    op.create_index("ix_jobs_study_id", "jobs", ["study_id"])
    op.create_index("jobs_to_do", "jobs", ["state", "kind", "run_after"])
