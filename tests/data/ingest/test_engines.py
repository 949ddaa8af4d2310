"""Laws that every engine obeys."""

from importlib.util import find_spec

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from querytier.data.ingest.engines import DaftEngine, LocalEngine, engine
from querytier.errors import LogError, MissingExtraError, QuerytierError, UsageError

HAS_DAFT = find_spec("daft") is not None
needs_daft = pytest.mark.skipif(not HAS_DAFT, reason="daft is not installed: make distributed-test")
ENGINES = [LocalEngine(), pytest.param(DaftEngine(), marks=needs_daft)]
every_engine = pytest.mark.parametrize("any_engine", ENGINES, ids=lambda e: type(e).__name__)

# Daft's workers cannot import this file. Functions made inside functions travel to them whole.


def counting():
    """Return work that yields, for an item n, the batches (n, 0) to (n, n - 1)."""

    def work(item):
        for number in range(item):
            yield pa.record_batch({"item": [item], "batch": [number]})

    return work


def failing(error):
    """Return work that yields one batch, and then raises an error for item 1."""

    def work(item):
        yield pa.record_batch({"item": [item]})
        if item == 1:
            raise error()

    return work


def rows(batches):
    return [row for batch in batches for row in batch.to_pylist()]


@every_engine
def test_batches_come_in_the_order_of_items_and_of_each_items_batches(any_engine):
    items = [3, 0, 1, 5, 2] * 4
    expected = [{"item": n, "batch": k} for n in items for k in range(n)]
    assert rows(any_engine.batches(counting(), items)) == expected


@every_engine
def test_the_order_holds_if_the_first_items_take_longest(any_engine):
    def make():
        def work(item):
            from time import sleep

            sleep(0.02 * (6 - item))
            yield pa.record_batch({"item": [item]})

        return work

    assert rows(any_engine.batches(make(), range(6))) == [{"item": n} for n in range(6)]


@every_engine
def test_no_items_yield_no_batches(any_engine):
    assert list(any_engine.batches(counting(), [])) == []


@every_engine
def test_items_may_yield_no_batch(any_engine):
    assert list(any_engine.batches(counting(), [0, 0, 0])) == []


@every_engine
def test_nulls_nested_lists_and_empty_batches_keep_their_types(any_engine):
    def make():
        def work(_):
            schema = pa.schema(
                {
                    "text": pa.string(),
                    "lists": pa.list_(pa.list_(pa.float32())),
                    "struct": pa.struct({"a": pa.int8(), "b": pa.list_(pa.string())}),
                    "hash": pa.uint64(),
                    "kind": pa.dictionary(pa.int32(), pa.string()),
                }
            )
            content = [
                {"text": None, "lists": None, "struct": None, "hash": 2**64 - 1, "kind": "x"},
                {"text": "日本", "lists": [[], None, [0.5, None]], "struct": {"a": 1, "b": []}},
            ]
            yield pa.RecordBatch.from_pylist(content, schema)
            yield pa.RecordBatch.from_pylist([], schema)
            yield pa.RecordBatch.from_pylist([{"n": None}], pa.schema({"n": pa.null()}))

        return work

    batches = list(any_engine.batches(make(), [0, 1]))
    expected = [*make()(0), *make()(1)]
    assert batches == expected
    assert [batch.schema for batch in batches] == [batch.schema for batch in expected]


def usage_error():
    return UsageError("no such file: día.jsonl; give the path of a router log")


def log_error():
    return LogError("log.jsonl.gz is damaged")


def missing_extra_error():
    return MissingExtraError("datafog", "train")


@every_engine
@pytest.mark.parametrize("error", [usage_error, log_error, missing_extra_error])
def test_an_error_keeps_its_type_and_comes_after_earlier_batches(any_engine, error):
    def make(kind, arguments):
        return lambda: kind(*arguments)

    arguments = ("datafog", "train") if error is missing_extra_error else (str(error()),)
    batches = any_engine.batches(failing(make(type(error()), arguments)), [0, 1, 2])
    assert [rows([next(batches)]), rows([next(batches)])] == [[{"item": 0}], [{"item": 1}]]
    with pytest.raises(QuerytierError) as raised:
        next(batches)
    assert type(raised.value) is type(error())
    assert str(raised.value) == str(error())


@every_engine
def test_an_engine_works_again_after_an_error(any_engine):
    with pytest.raises(LogError):
        list(any_engine.batches(failing(lambda: LogError("damaged")), [1]))
    next(any_engine.batches(counting(), [1, 2, 3]))
    assert rows(any_engine.batches(counting(), [1])) == [{"item": 1, "batch": 0}]


def test_the_local_engine_does_no_work_before_the_first_batch():
    begun = []

    def work(item):
        for number in range(2):
            begun.append((item, number))
            yield pa.record_batch({"item": [item]})

    batches = LocalEngine().batches(work, [0, 1])
    assert begun == []
    next(batches)
    assert begun == [(0, 0)]
    next(batches)
    next(batches)
    assert begun == [(0, 0), (0, 1), (1, 0)]


@needs_daft
@settings(max_examples=5)
@given(st.lists(st.integers(0, 4), max_size=20))
def test_daft_yields_what_the_local_engine_yields(items):
    there, here = (e.batches(counting(), items) for e in (DaftEngine(), LocalEngine()))
    assert list(there) == list(here)


def test_the_local_engine_has_no_address():
    assert engine("local") == LocalEngine()
    with pytest.raises(UsageError, match=r"'10\.0\.0\.1:6379' of a Ray cluster is not used"):
        engine("local", "10.0.0.1:6379")


def test_an_unknown_engine_is_refused():
    with pytest.raises(UsageError, match="'spark'; choose 'local' or 'daft'"):
        engine("spark")


@needs_daft
def test_the_daft_engine_is_found_if_daft_is_installed():
    assert engine("daft") == DaftEngine()


@pytest.mark.skipif(HAS_DAFT, reason="daft is installed")
def test_the_daft_engine_says_which_extra_it_needs():
    with pytest.raises(MissingExtraError, match=r"querytier\[distributed\]"):
        engine("daft")
