"""Many event runs at once as NumPy arrays: what people intend to do, and how each booking and run ends."""
