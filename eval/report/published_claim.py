"""The published promise, put to the test: some 78% of the traffic can go cheap, and quality stays.

Articles about routers say that about 78% of the traffic can go to the cheap model, and 70 to 85% of
the cost be saved. What became of either on held-out rows is one table: the classifier, the keyword
heuristic, the classifier's own decisions shuffled, and the oracle, which no router can beat.
"""

from collections.abc import Sequence
from typing import Any

from querytier.data.examples import Examples
from querytier.eval.intervals import Resampling
from querytier.eval.rankings import Ranking
from querytier.eval.report.budget import budget_table, verdict

__all__ = ["PROMISED_CHEAP_SHARE", "PROMISED_SAVING", "promise_record"]

PROMISED_CHEAP_SHARE = 0.78
PROMISED_SAVING = 0.7
# "Without losing quality", read kindly: articles call this much the same quality.
_SAME_QUALITY = 0.95
_ROWS = ("classifier", "keyword_heuristic", "shuffled_decisions", "oracle")


def promise_record(
    examples: Examples,
    rankings: Sequence[Ranking],
    resampling: Resampling,
    routing_cost: float = 0.0,
) -> dict[str, Any] | None:
    """Put the promise to the test; None where the rows have no scores of both tiers.

    Parameters
    ----------
    examples : Examples, length n
    rankings : sequence of Ranking
        Of these examples; those of the table are picked by name.
    resampling : Resampling
        Over the groups of the examples.
    routing_cost : float
        What deciding costs for each query, in the currency of the costs.
    """
    if not examples.scored:
        return None
    by_name = {ranking.name: ranking for ranking in rankings}
    named = [(name, by_name[name].scores) for name in _ROWS if name in by_name]
    table = budget_table(
        named,
        examples,
        resampling,
        cheap_share=PROMISED_CHEAP_SHARE,
        decision_cost=routing_cost,
    )
    return {
        "cheap_share": PROMISED_CHEAP_SHARE,
        "rows": [
            {
                **row.to_dict(),
                "same_quality": verdict(row.quality_retained, _SAME_QUALITY),
                "saving": verdict(row.cost_saved, PROMISED_SAVING) if examples.priced else None,
            }
            for row in table
        ],
    }
