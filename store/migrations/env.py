"""What Alembic runs: the migrations on the connection that store/migrate.py opened."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
