"""Sends each operation's transaction once: states, nonces, fees, signing."""
