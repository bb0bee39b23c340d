"""Tables, connections, the embedded PostgreSQL server."""
