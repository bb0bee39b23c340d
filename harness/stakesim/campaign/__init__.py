"""Many scenarios at once: run them, collect what is found, write the report."""
