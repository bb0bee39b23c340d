"""Nothing but what pytest must know before it collects: see harness/plugin.py for fixtures and options."""
