"""The command line: one verb is one function, which reads options and prints a result.

`main.py` lists all verbs by panel, with one example each. `options.py` has the options that several
verbs share and the functions that print; `log_options.py` has the options for reading logs. The
other files are named after their verbs: `pipeline.py` has the stages and `run`, `artifact.py` the
verbs that need only an artifact, `registry.py` has `trace` and `rollback`. Heavy packages are
imported inside the verbs, so that `--help` and `decide` start quickly.
"""
