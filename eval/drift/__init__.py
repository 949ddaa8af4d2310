"""Whether two windows of traffic differ, by tests that rarely alarm if nothing has changed.

Read `windows` first (two windows, and the shuffles of their groups), then `statistics` (how a shift
is measured), `comparisons` (the list of tests), `tests` (p-values, and the rate of false alarms
over all tests), `findings` (the rule and the results) and `page` (HTML and figures).
"""
