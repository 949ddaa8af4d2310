"""From log files to examples with splits, in constant memory.

Read `preparing` first: it has the two passes. The first one uses `sources` (a file and how to read
it), `log_batches` (records to batches of rows, bad ones counted), `labelled_log` (batches of
examples), `redaction` and `corrections`, in this process or others (`engines`). `running_counts`
stays in memory, and `data_summary` is the report. `inspecting` shows a log before it is prepared.
"""
