"""Offline: router logs to labelled examples with splits.

Read in this order: `text_view` (what the classifier sees of a query), `values` and `column_map`
(the fields of a log record), `label_rules` and `labelling` (which rule makes which label),
`example` (a row; a record gets its label here) and `examples` (a table of rows), `splits`,
`near_duplicates` and `leakage` (which rows are for training and which for evaluation). `arrays` and
`parallel` are for all rooms.

The folders build on that: `formats` reads the files, `ingest` turns logs into examples, `record`
keeps the examples of a retrain loop, and `public` fetches public sets. A router loads only
`text_view`.
"""
