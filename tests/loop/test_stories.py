"""The two stories of examples/loop hold, with real processes."""

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
    """It says so itself: every check printed, the exit code 0 only where all of them hold."""
    told = subprocess.run(
        [sys.executable, STORIES / f"{story}.py", "--out", tmp_path / "kept"],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert told.returncode == 0, told.stdout + told.stderr
    assert "DOES NOT HOLD" not in told.stdout
