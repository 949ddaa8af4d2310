"""Windows of traffic to compare: their time, and which artifact compares them."""

import pytest

from querytier.errors import UsageError
from querytier.loop.drift_windows import Span, artifact_folder


def test_spans_of_time_are_half_open():
    assert Span.of("2031-05-07", "2031-05-08").since == "2031-05-07T00:00:00.000000Z"
    with pytest.raises(UsageError, match="swap"):
        Span.of("2031-05-08", "2031-05-07")
    with pytest.raises(UsageError, match="write a date"):
        Span.of("yesterday", None)


def test_run_or_artifact_must_be_unambiguous(tmp_path):
    assert artifact_folder(tmp_path, None, None) == tmp_path / "model"
    assert artifact_folder(None, tmp_path, [tmp_path]) == tmp_path
    for arguments in ((None, None, None), (tmp_path, tmp_path, None), (None, tmp_path, None)):
        with pytest.raises(UsageError):
            artifact_folder(*arguments)
