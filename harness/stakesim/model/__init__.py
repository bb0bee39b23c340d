"""The reference model: what must happen, by the rules alone. No chain, no files, no clock."""
