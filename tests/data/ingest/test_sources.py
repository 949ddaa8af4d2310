"""A log source without readable records: the error says what was wrong with them."""

import pytest

from querytier.data.ingest.sources import LogSource
from querytier.errors import LogError


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("array.jsonl", b'[{"query": "a"}]', r"not a JSON object: 1"),
        ("latin.csv", "query,needs_frontier\ncafé,1\n".encode("latin-1"), r"not UTF-8: 1"),
        ("cut.csv", b"query,needs_frontier\na\nb\na,1,2\n", r"header has 2: 2; 3 fields"),
        ("header.csv", b"query,needs_frontier\n", r"has no records"),
        ("empty.jsonl", b"", r"has no records"),
    ],
)
def test_error_of_a_log_without_readable_records_says_why(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(LogError, match=said):
        LogSource(tmp_path / name).columns()
