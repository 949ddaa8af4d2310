"""Fixtures of the serve room: a committed artifact, so that no run has to be made first."""

from pathlib import Path

import pytest

from querytier.serve import Router

# Not from served.py: the plugin's tests also run where the packages of the service are missing.
ARTIFACT = Path(__file__).parents[1] / "fixtures" / "artifacts" / "format-2"


@pytest.fixture(scope="session")
def artifact():
    """Return the folder of a small artifact with a static encoder."""
    return ARTIFACT


@pytest.fixture(scope="session")
def router(artifact):
    """Return a router with default settings."""
    return Router.load(artifact)
