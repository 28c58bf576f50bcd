"""What Alembic runs: the migrations on the connection that store/catalogue/tables/migrate.py
opened."""

from alembic import context

_given = context.config.attributes
context.configure(connection=_given["connection"], on_version_apply=_given.get("on_version"))
context.run_migrations()
