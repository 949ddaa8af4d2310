"""In-path: from a query to a decision.

Read `settings` and `decision` first, then `choices` (what may change the classifier's choice) and
`router`, which joins them. These four files import nothing from the folders below, so that a
program that only decides loads little. `log` writes decisions and outcomes, `watch` tests whether a
certificate still holds, `http` serves decisions over HTTP, `plugins` are for gateways.

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
