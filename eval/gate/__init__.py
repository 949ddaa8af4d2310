"""The gate: whether a classifier may become champion. The only choice that uses test rows.

Read `checks` first (the result of a gate, and the checks of a classifier without a champion to
beat), then `matched_cost` (two rankings at equal cost), `comparisons` (champion and challenger on
the same rows) and `non_inferiority` (which differences are good enough).
"""
