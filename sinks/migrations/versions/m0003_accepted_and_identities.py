"""What the gateways relayed: accepted tips by receipt, and their sealed identities."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "accepted",
        sa.Column("tip_id", sa.String(length=36), nullable=False),
        sa.Column("county", sa.String(length=64), nullable=False),
        sa.Column("receipt", sa.String(length=64), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("tip_id", name=op.f("pk_accepted")),
        sa.UniqueConstraint("receipt", name=op.f("uq_accepted_receipt")),
    )
    op.create_table(
        "identities",
        sa.Column("tip_id", sa.String(length=36), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("token", sa.String(length=200), nullable=False),
        sa.Column("key_id", sa.String(length=64), nullable=False),
        sa.Column("wrapped_key", sa.LargeBinary(), nullable=False),
        sa.Column("nonce", sa.LargeBinary(), nullable=False),
        sa.Column("ciphertext", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("tip_id", "kind", "token", name=op.f("pk_identities")),
    )
    op.create_index(op.f("ix_identities_token"), "identities", ["token"], unique=False)
    op.create_index(op.f("ix_identities_key_id"), "identities", ["key_id"], unique=False)


def downgrade() -> None:
    op.drop_table("identities")
    op.drop_table("accepted")
