"""Public data sets as log files: `querytier data fetch`, and nothing else, uses this folder.

Read `fetch` first: the sets, the download and the file that is written. `forms` has the layouts in
which the sets are published, as far as `querytier.data.formats` does not read them, and counts the
models of a set; `results_archive` reads the archive of LLMRouterBench.
"""
