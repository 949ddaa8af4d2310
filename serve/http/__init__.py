"""Decisions over HTTP, for any ASGI server; `server` runs one.

Read `settings` and `wire` (what is read and answered), then `service` (decide, log, count, reload),
`endpoints` (one function per path) and `app`, which joins them with `access` (which requests are
admitted, within which limits). `reloading` loads artifacts, `shadow` runs a challenger; `metrics`,
`watch_metrics`, `shadow_metrics` and `telemetry` report; `inference_protocol` and `openapi` speak
other formats.
"""
