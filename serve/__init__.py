"""In-path: from a query to a decision.

>>> from querytier.serve import Router
>>> Router.load("no/such/folder")
Traceback (most recent call last):
    ...
querytier.errors.ArtifactError: no/such/folder is not a querytier artifact: ...
"""

from querytier.serve.decision import Decision
from querytier.serve.router import Router
from querytier.serve.settings import Exploration, RouterSettings, TenantCap

__all__ = ["Decision", "Exploration", "Router", "RouterSettings", "TenantCap"]
