"""The command line: one verb is one function, which reads options and prints a result.

`main.py` lists all verbs in their panels, with an example each. `options.py` has the options that
several verbs share and what prints tables; `log_options.py` has those for reading logs. The other
files are named like their verbs: `pipeline.py` has the stages and `run`, `artifact.py` what needs
an artifact only, `registry.py` the verbs `trace` and `rollback`. Heavy packages are imported inside
the verbs, so that `--help` and `decide` start quickly.
"""
