"""From log files to examples with splits, in constant memory.

Read `preparing` first: it has the two passes. The first goes through `sources` (what a file needs
to be read), `log_batches` (records to batches of rows, bad ones counted), `labelled_log` (batches
of examples), `redaction` and `corrections`, in this process or others (`engines`); `running_counts`
is what stays in memory, and `data_summary` what is reported. `inspecting` shows a log before all
that.
"""
