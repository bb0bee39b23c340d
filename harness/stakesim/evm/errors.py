"""What goes wrong with a chain, in a sentence for whoever asked for it. It imports nothing, so all may import it."""


class EngineError(Exception):
    """One sentence: what is wrong, and what to do about it."""


class NotSupported(EngineError):
    """The engine lacks this capability; `Engine.capabilities` says beforehand."""
