"""Benchmarks: the speed of a lifecycle through all layers, compared with other tools on the same machine."""
