"""Configuration, errors, logs and security. Imports nothing else of the application."""
