"""What happens to a champion: it is compared, replaced, watched for drift, and recalibrated.

Read `contenders.py` and `gate.py` first: one challenger against one champion on rows that neither
has learned from. A round of `querytier retrain` adds new logs before that: `rounds.py` (the folder
and what makes rounds repeatable), `fresh_data.py` with `fresh_label_audit.py` (read, audit and
merge), `round_gate.py`, `round_decision.py` (what the round reports), and `retrain.py`, which runs
the steps. The rest stands alone: `drift_report.py` compares two windows of traffic,
`recalibration.py` adapts an artifact to another pair of models (labels from `pair_labels.py`), and
`query_selection.py` picks queries to label.
"""
