"""The story of examples/loop/story_poison.py; a file of its own, so that both play side by side."""

import pytest

from story import check_story


@pytest.mark.slow
@pytest.mark.checkout
def test_the_story_of_poison_holds(tmp_path):
    check_story("story_poison", tmp_path)
