"""Scenarios as data: actors, terms, actions with their times, and the file format."""
