"""The two stories of examples/loop, with real processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

STORIES = Path(__file__).parents[2] / "examples" / "loop"


@pytest.mark.slow
@pytest.mark.checkout
@pytest.mark.parametrize("story", ["story_drift", "story_poison"])
def test_the_story_holds(story, tmp_path):
    """A story prints every check, and its exit code is 0 only if all of them hold."""
    answer = subprocess.run(
        [sys.executable, STORIES / f"{story}.py", "--out", tmp_path / "story"],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "DOES NOT HOLD" not in answer.stdout
