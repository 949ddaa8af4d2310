"""P-values and upper bounds of a mean loss.

Losses of 0 or 1 have exact binomial tests, whose bound is Clopper & Pearson's (1934). Graded losses
have tests by betting (Waudby-Smith & Ramdas 2024): Hoeffding's inequality uses only the range of
the losses, not their variance, and needs several times as many rows for rare or small losses.
"""

import math

import numpy as np

from querytier.data.arrays import Floats, Integers

__all__ = [
    "betting_bound",
    "betting_log_p_value",
    "binomial_log_p_values",
    "fewest_without_failure",
]


_LARGEST_BET = 0.75
_HALVINGS = 50


def fewest_without_failure(alpha: float, delta: float) -> int:
    """Return the smallest number of losses, all zero, that shows a mean of at most alpha.

    No method can do with fewer: (1 - alpha)^n, the chance that a mean of alpha gives n zeros, has
    to fall to delta.

    Parameters
    ----------
    alpha, delta : float
        In (0, 1).

    Examples
    --------
    >>> [fewest_without_failure(alpha, 0.1) for alpha in (0.05, 0.02, 0.01)]
    [45, 114, 230]
    """
    return math.ceil(math.log(delta) / math.log1p(-alpha))


def binomial_log_p_values(failures: Integers, counts: Integers, alpha: float) -> Floats:
    """Return the logarithms of exact p-values of "more than a share alpha fails".

    Parameters
    ----------
    failures, counts : ndarray of int64, shape (k,)
        Failures among independent trials of equal risk; without trials the p-value is 1.
    alpha : float
        In (0, 1).

    Returns
    -------
    ndarray of float64, shape (k,)
        log P(no more failures than these), at risk alpha.
    """
    from scipy.stats import binom

    return np.asarray(binom.logcdf(failures, counts, alpha), dtype=np.float64)


def betting_log_p_value(losses: Floats, alpha: float, delta: float) -> float:
    """Return the logarithm of a p-value of "the mean loss is above alpha", for losses in [0, 1].

    A gambler bets, before seeing each loss, that it is below alpha. If the mean is above alpha, the
    game is not in the gambler's favour, so the probability that the capital ever reaches 1 / delta
    is at most delta (Ville 1939). The bets depend on the mean and the variance so far (Waudby-Smith
    & Ramdas 2024, predictable plug-in), so rare or small losses need few rows. Losses whose own
    mean reaches alpha show nothing, whatever their order.

    Parameters
    ----------
    losses : ndarray of float64, shape (n,)
        Independent, of equal mean, in an order that does not follow from their values.
    alpha : float
        In (0, 1).
    delta : float
        In (0, 1); the level for which the bets are made. The p-value holds at every level.

    Returns
    -------
    float
        At most 0.
    """
    if losses.sum() >= alpha * len(losses):
        return 0.0
    # A stake of 1 / (1 - alpha) would lose everything on a loss of 1; three quarters never do.
    stakes = np.minimum(_bets(losses, delta), _LARGEST_BET / (1 - alpha))
    capital = np.cumsum(np.log1p(stakes * (alpha - losses)))
    return -max(0.0, float(capital.max(initial=0.0)))


def betting_bound(losses: Floats, delta: float) -> float:
    """Return the upper bound of a mean loss that `betting_log_p_value` gives; parameters as there.

    Returns
    -------
    float
        In (0, 1]; 1 if the losses show nothing.

    Examples
    --------
    >>> round(betting_bound(np.full(200, 0.1), 0.1), 3)
    0.114
    """
    # No closed form: bisection, as the p-value falls with alpha.
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if betting_log_p_value(losses, middle, delta) <= math.log(delta):
            high = middle
        else:
            low = middle
    return high


def _bets(losses: Floats, delta: float) -> Floats:
    """Return each bet from the losses before it, shape (n,)."""
    seen = np.arange(2, len(losses) + 2)
    means = (0.5 + np.cumsum(losses)) / seen
    variances = (0.25 + np.cumsum((losses - means) ** 2)) / seen
    # A bet may use only the losses before its own, or the capital is no longer a martingale.
    before = np.concatenate([[0.25], variances[:-1]])[: len(losses)]
    return np.sqrt(2 * math.log(1 / delta) / (len(losses) * before))
