"""Examples for tests: every field that a test does not name is empty."""

from dataclasses import fields

import numpy as np

from querytier.data.example import Example
from querytier.data.examples import Examples

TEXTS = [field.name for field in fields(Example) if field.type is str]
BLANK = {field.name: "" if field.name in TEXTS else np.nan for field in fields(Example)} | {
    "query": "q",
    "weight": 1.0,
}


def blank_example(**given):
    """Return an example with weight 1 and the query "q"; everything else is empty."""
    return Example(**{**BLANK, **given})


def blank_examples(**columns):
    """Return examples with these columns, all of one length; everything else is empty."""
    (count,) = {len(column) for column in columns.values()}
    columns = {name: [value] * count for name, value in BLANK.items()} | columns
    kinds = {name: object if name in TEXTS else np.float64 for name in columns}
    return Examples(**{name: np.array(columns[name], dtype=kinds[name]) for name in columns})
