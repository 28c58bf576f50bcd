"""The tables and how they are opened: what every query stands on.

`schema` has the tables, `migrations` how older ones become today's, `database` opens SQLite or
PostgreSQL and has the transactions, `rows` the rows as the rest of weightvault sees them.

Imports `errors` of the room and nothing else of ours.

- **reading**, **writing**: the two kinds of transactions; raising inside one undoes it.
"""
