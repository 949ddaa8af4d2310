"""Examples for tests: every field that a test does not name is empty."""

from dataclasses import fields

import numpy as np

from querytier.data.example import Example
from querytier.data.examples import Examples

EMPTY = {field.name: "" if field.type is str else np.nan for field in fields(Example)}


def blank_example(**given):
    """Return an example with weight 1 and the query "q"; everything else is empty."""
    return Example(**{**EMPTY, "query": "q", "weight": 1.0, **given})


def blank_examples(**columns):
    """Return examples with these columns, all of one length; everything else is empty."""
    rows = zip(*columns.values(), strict=True)
    return Examples.of([blank_example(**dict(zip(columns, row, strict=True))) for row in rows])
