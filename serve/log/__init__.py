"""The decision log: decisions and outcomes as JSON lines in files, written in the background.

Read `settings` (what is logged, and what a crash may lose), then `decision_log` (the files and
their fields), `write_behind` (the thread that writes) and `log_file` (a file that processes share).
"""
