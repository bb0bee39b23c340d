"""Many runs at once as NumPy arrays: how people behave, and what comes of it."""
