"""Log formats: records of any supported log, with one set of names.

Read `reading` first (files to records, line by line), then `canonical` (the names) and `recognise`
(which format a record has). Each other module is one format: `gateways`, `langfuse`,
`opentelemetry` with `otlp` and `otel_evaluations`, `decision_log` (our own), `score_tables` and
`arena`. `judgements` keeps judgements that a log stores apart from the calls they judge.
"""
