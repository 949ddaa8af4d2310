"""How often each tenant got the frontier tier of late, and whether that is enough."""

from collections import OrderedDict, deque
from collections.abc import Callable
from threading import Lock

from querytier.serve.choices import Choice
from querytier.serve.settings import TenantCap

__all__ = ["TenantShares"]


class TenantShares:
    """Counts tenants' decisions; threads may share it.

    Parameters
    ----------
    cap : TenantCap
    """

    def __init__(self, cap: TenantCap) -> None:
        self._cap = cap
        self._lock = Lock()
        self._latest: OrderedDict[str, deque[bool]] = OrderedDict()

    def settled(self, tenant: str, choose: Callable[[bool], Choice]) -> Choice:
        """Return a tenant's choice, and count it.

        Parameters
        ----------
        tenant : str
        choose : callable
            Gets whether one frontier decision more would exceed the tenant's share, and returns the
            choice. No other choice is counted meanwhile, so that the share is kept exactly, and
            what has no chance is known before any chance is drawn.
        """
        with self._lock:
            latest = self._of(tenant)
            choice = choose(self._is_full(latest))
            if self._cap.holds_for(choice.reason):
                latest.append(choice.tier == "frontier")
            return choice

    def _of(self, tenant: str) -> deque[bool]:
        latest = self._latest.setdefault(tenant, deque(maxlen=self._cap.window))
        self._latest.move_to_end(tenant)
        if len(self._latest) > self._cap.tenants:
            self._latest.popitem(last=False)
        return latest

    def _is_full(self, latest: deque[bool]) -> bool:
        if len(latest) < self._cap.at_least:
            return False
        leaves = latest[0] if len(latest) == self._cap.window else False
        count = min(len(latest) + 1, self._cap.window)
        return sum(latest) - leaves + 1 > self._cap.share * count
