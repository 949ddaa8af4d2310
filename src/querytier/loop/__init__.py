"""What happens to a champion: it is compared, replaced, watched for drift, and recalibrated.

Read `contenders.py` and `gate.py` first: they compare one challenger with one champion on rows that
neither was trained on. A round of `querytier retrain` adds new logs before that: `rounds.py` (the
folder, and how rounds stay repeatable), `fresh_data.py` with `fresh_label_audit.py` (read, audit,
merge), `round_decision.py` (what the round reports) and `retrain.py`, which runs the steps. The
rest is independent: `drift_report.py` compares two windows of traffic, `recalibration.py` adapts a
run to another pair of models (labels from `pair_labels.py`), `query_selection.py` picks queries to
label.
"""
