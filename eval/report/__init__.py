"""Reports and pages: tables, plots and words from records, as HTML, Markdown and text.

Read `table` (rows of metrics.json as cells and sentences), `budget` (the published claim, tested),
`mistakes`, `figures` and `plots`; then `pages`, which has the one template environment, and the
report. `round_page` and `recalibration_page` are separate pages. The texts of all pages are in
`templates`; `_page.html.jinja` and `_style.html.jinja` are the frame and the style that they share.
"""
