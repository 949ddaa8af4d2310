"""Fixtures of the serve room: a committed artifact, so that no run has to be made first."""

import pytest

from querytier.serve import Router
from served import ARTIFACT


@pytest.fixture(scope="session")
def artifact():
    """Return the folder of a small artifact with a static encoder."""
    return ARTIFACT


@pytest.fixture(scope="session")
def router(artifact):
    """Return a router with default settings."""
    return Router.load(artifact)
