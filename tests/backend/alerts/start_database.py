"""Starts the PostgreSQL server of a data directory, as `systemctl start postgresql` does. Argument: the directory."""

import sys
from pathlib import Path

from app.db.embedded import start_embedded

start_embedded(Path(sys.argv[1]))
