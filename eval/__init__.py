"""Offline evidence about rankings and decisions: arrays in, records and pages out.

Nothing here decides a query or reads a log. Read first `intervals` (estimates, the bootstrap over
groups, and how intervals are written), `metrics` and `rankings`; then `curves` (quality against
frontier rate), `evaluation` (all rankings compared), `calibration`, `slices` and `prices`;
`staleness` measures an old classifier on another pair of models. The folders: `certificates`
(promises about a threshold), `report` (tables, plots, pages), `gate` (champion against challenger),
`drift` (two windows of traffic), `off_policy` (one-sided logs).
"""
