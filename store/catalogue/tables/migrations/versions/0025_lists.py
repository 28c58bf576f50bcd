"""Lists of repos go by indexes of what their names say and of their newest commits."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"

_AT_ONCE = 10_000


def upgrade() -> None:
    """Adds columns and indexes, and fills the columns."""
    op.add_column("repos", sa.Column("kind", sa.String(20), nullable=False, server_default=""))
    op.add_column(
        "repos", sa.Column("namespace", sa.String(200), nullable=False, server_default="")
    )
    op.add_column("repos", sa.Column("newest", sa.BigInteger(), nullable=True))
    op.execute(
        "UPDATE repos SET newest = (SELECT MAX(commit_id) FROM refs WHERE repo_id = repos.id)"
    )
    _fill_names(op.get_bind())
    op.create_index("ix_repos_newest", "repos", ["newest"])
    op.create_index("commits_of_repo", "commits", ["repo_id", "id"])
    public = sa.text("public")
    for order in ("name", "newest"):
        op.create_index(f"repos_of_kind_by_{order}", "repos", ["kind", order])
        op.create_index(f"repos_of_namespace_by_{order}", "repos", ["namespace", order])
        op.create_index(
            f"public_repos_by_{order}",
            "repos",
            [order],
            sqlite_where=public,
            postgresql_where=public,
        )


def _fill_names(connection: sa.Connection) -> None:
    named = sa.text("SELECT id, name FROM repos WHERE id > :after ORDER BY id LIMIT :most")
    change = sa.text("UPDATE repos SET kind = :kind, namespace = :namespace WHERE id = :id")
    after = 0
    while rows := connection.execute(named, {"after": after, "most": _AT_ONCE}).all():
        parts = [(row.id, row.name.split("/")) for row in rows]
        # A kind comes before the namespace, where there is one.
        values = [{"id": i, "kind": "".join(p[:-2]), "namespace": p[-2]} for i, p in parts]
        connection.execute(change, values)
        after = rows[-1].id
