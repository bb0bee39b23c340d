"""The JSON-RPC methods that a general-purpose development node has beside those of `node.InProcessNode`.

A module a subject; each has a function `methods` that returns the methods by name.
"""
