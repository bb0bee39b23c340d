"""Input files: the types of their fields, reading and writing YAML, and errors that name file, line and field."""
