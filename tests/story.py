"""Plays a story of examples/loop with real processes."""

import os
import subprocess
import sys
from pathlib import Path

STORIES = Path(__file__).parents[1] / "examples" / "loop"


def check_story(name, folder):
    """Play a story; it prints every check, and exits with 0 only if all of them hold."""
    answer = subprocess.run(
        [sys.executable, STORIES / f"{name}.py", "--out", folder / "story"],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "DOES NOT HOLD" not in answer.stdout
