"""The gate decides whether a classifier may become champion; no other choice uses test rows.

Read `checks` first (the result of a gate, and the checks if there is no champion to beat), then
`matched_cost` (two rankings at equal cost), `comparisons` (champion and challenger on the same
rows) and `non_inferiority` (which differences are good enough).
"""
