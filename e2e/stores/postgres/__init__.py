"""A PostgreSQL server on loopback, of the system's packages: a database of its own for each caller, gone at the end."""

from e2e.stores.postgres.server import PostgresServer, PostgresUnavailable

__all__ = ["PostgresServer", "PostgresUnavailable"]
