"""querytier decides, before any LLM is called, whether a query needs the frontier model."""

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("querytier")
