"""The classifier that a router loads, and how it is modelled and exported.

The modules of this folder are all that a decision needs; they import neither onnx nor torch nor
scikit-learn. Read `artifact` (the folder of files), `manifest` (its contract), `graph_file` (what
model.onnx may contain), `tokens`, `threshold` and `runtime` (a query's scores); then `certificate`
(whether a promise is about this artifact) and `golden` (vectors that check an artifact or a port).

`model/` is the fitted classifier, and `export/` turns it into an artifact.
"""
