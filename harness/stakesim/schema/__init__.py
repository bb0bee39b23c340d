"""Field types of the file formats, and the YAML reader with errors that name file and line."""
