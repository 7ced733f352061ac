"""Alembic's environment. Runs inside a transaction of `sinks.database.migrate`, or by itself with `-x url=…`."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from sinks.database import open_database
from sinks.tables import metadata


def _run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        render_as_batch=connection.dialect.name == "sqlite",
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def _main() -> None:
    given = context.config.attributes.get("connection")
    if given is not None:
        _run(given)
        return
    with open_database(context.get_x_argument(as_dictionary=True)["url"]).begin() as connection:
        _run(connection)


_main()
