"""What a run writes to MLflow, and what is read back.

Read `store.py` first: where the store is, and the only place that imports mlflow. Then `runs.py`
(the reference and the end of a run), `tracker.py` (what a run logs and registers) and
`registry.py` (registered versions, the aliases `challenger` and `champion`). `model_uri.py` loads
an artifact by its registered name; `lineage.py` traces a served decision back to its run.
"""
