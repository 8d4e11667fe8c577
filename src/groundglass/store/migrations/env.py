"""Run by alembic: applies the migrations on the connection of groundglass.store.database."""

from alembic import context

from groundglass.store.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
