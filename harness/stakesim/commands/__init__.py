"""The command line: `cli` collects the commands, and each command has its own module."""
