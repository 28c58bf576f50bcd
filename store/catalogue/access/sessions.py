"""Sessions of browsers that were ended before they would have ended by themselves."""

from __future__ import annotations

from sqlalchemy import delete, select

from ..tables.database import Database
from ..tables.token_schema import ended_sessions


def end_session(catalogue: Database, session: str, until: float, now: float) -> None:
    """Records that a session has ended, for as long as it would have lasted (Unix seconds)."""
    with catalogue.writing() as connection:
        connection.execute(delete(ended_sessions).where(ended_sessions.c.until < now))
        catalogue.add_once(connection, ended_sessions, [{"session": session, "until": until}])


def is_ended(catalogue: Database, session: str) -> bool:
    """Says whether a session was ended."""
    query = select(ended_sessions.c.until).where(ended_sessions.c.session == session)
    with catalogue.reading() as connection:
        return connection.scalar(query) is not None
