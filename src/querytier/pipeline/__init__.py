"""The stages of the pipeline, and other ways to turn logs into evidence about an artifact.

Read in the order of a run: `params.py` (every parameter; `param_sections.py` has those of the
loop), `prepare.py`, `feature_blocks.py` and `train.py`, `export.py` and `certification.py`,
`scoring.py`, `evaluation_run.py`, `metrics_file.py` and `evaluate.py`. `querytier run` calls the
four stages one after the other. Three modules are not part of a run: `cross_validation.py` is for
few rows, `external_logs.py` for an artifact on other logs, `off_policy.py` for one-sided logs.

All stages share one folder, `out`::

    out/data/             examples.parquet, summary.json               prepare
    out/quarantine.jsonl  records that made no example                 prepare
    out/train/            head, candidates, embeddings, run            train
    out/unfinished/       checkpoints, from which a train resumes      train
    out/model/            the artifact                                 export
    out/metrics.json      the evaluation, for tools                    evaluate
    out/report.html       the evaluation, for people                   evaluate

Each file and folder appears complete or not at all. If train, export or evaluate fails or is
interrupted, its MLflow run says why.
"""
