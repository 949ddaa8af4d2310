"""The results another router would have had, from logs in which one tier answered each query.

Read `logged_decisions` first (the log as columns), then `overlap` (whether it can evaluate a policy
at all), `outcome_models` (the expected outcome of each tier), `estimators` (IPS, SNIPS and doubly
robust) and `page` (table, overlap plot and HTML).
"""
