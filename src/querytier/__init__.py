"""querytier decides, before any LLM is called, whether a query needs the frontier model."""

__all__ = ["__version__"]


def __getattr__(name: str) -> str:
    """Look up `__version__` on demand: the look-up takes time that a router's start can save."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version

    return version("querytier")
