"""Migrations of the server's database, run by alembic at each start of the server."""
