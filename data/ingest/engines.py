"""Where log files are processed: in this process, or by Daft on all cores or a Ray cluster.

An engine calls a function for each item and yields the Arrow record batches that the function
yields, in order. The results are the same with every engine; only the time differs.

References
----------
.. [1] Daft, https://docs.daft.ai: `daft.func.batch`, native runner, Ray runner.
"""

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from querytier import errors
from querytier.data.parallel import processors
from querytier.errors import MissingExtraError, QuerytierError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["DaftEngine", "Engine", "LocalEngine", "engine"]

Item = TypeVar("Item")
Work = Callable[[Item], "Iterator[pa.RecordBatch]"]

_ITEMS_PER_CORE = 8
_ENVIRONMENT = {"DAFT_ANALYTICS_ENABLED": "0", "DAFT_PROGRESS_BAR": "0"}


class Engine(Protocol):
    """Calls a function for each of many items."""

    def batches(self, work: Work[Item], items: Sequence[Item]) -> "Iterator[pa.RecordBatch]":
        """Yield what `work` yields for each item.

        Parameters
        ----------
        work : callable
            Turns an item into record batches, whose schemas may differ. It is called once per item.
            Work and items must be picklable.
        items : sequence

        Yields
        ------
        pyarrow.RecordBatch
            In the order of the items, and of each item's batches.

        Raises
        ------
        QuerytierError
            What `work` raises, after the batches that come before the error.
        """


@dataclass(frozen=True)
class LocalEngine:
    """Works in this process, one batch at a time, on demand."""

    def batches(self, work: Work[Item], items: Sequence[Item]) -> "Iterator[pa.RecordBatch]":
        """Yield what `work` yields for each item; see `Engine.batches`."""
        for item in items:
            yield from work(item)


@dataclass(frozen=True)
class DaftEngine:
    """Works by Daft, in other processes.

    The batches of an item are sent together, compressed. A worker has those of its current item in
    memory, and this process those of at most eight items per core.

    Attributes
    ----------
    address : str or None
        Address of a Ray cluster, as for `daft.set_runner_ray`. Its machines need this version of
        querytier, and the items' files under the same paths. None works on this machine. A process
        keeps the runner that it used first.
    """

    address: str | None = None

    def batches(self, work: Work[Item], items: Sequence[Item]) -> "Iterator[pa.RecordBatch]":
        """Yield what `work` yields for each item; see `Engine.batches`."""
        # Daft does not wait for a slow consumer, so it gets only as many items at a time as this
        # process can keep the batches of.
        at_once = _ITEMS_PER_CORE * _cores(self.address)
        for start in range(0, len(items), at_once):
            # Closed here in any case: the garbage collector may run on Daft's own thread, where an
            # unfinished run would wait for itself.
            with closing(_answers(work, items[start : start + at_once], self.address)) as answers:
                for answer in _in_order(answers):
                    yield from map(_batch_of, answer["batches"])
                    if answer["error"].is_valid:
                        raise _error_of(answer)


def engine(name: str, address: str | None = None) -> Engine:
    """Return the engine with a name.

    Parameters
    ----------
    name : {"local", "daft"}
    address : str or None
        Address of a Ray cluster, for "daft".

    Raises
    ------
    UsageError
        If there is no such engine, or "local" is given an address.
    MissingExtraError
        If Daft is not installed, or an address is given and Ray is not installed.
    """
    if name == "local":
        if address is not None:
            raise UsageError(
                f"the address {address!r} of a Ray cluster is not used by the local engine; remove "
                "it, or choose the engine 'daft'"
            )
        return LocalEngine()
    if name != "daft":
        raise UsageError(f"no such engine: {name!r}; choose 'local' or 'daft'")
    if find_spec("daft") is None:
        raise MissingExtraError("daft", "distributed")
    if address is not None and find_spec("ray") is None:
        raise MissingExtraError("ray", "ray")
    return DaftEngine(address)


@cache
def _cores(address: str | None) -> int:
    """Start Daft's runner; return its number of cores."""
    # Daft reads these when it is imported; without them it reports imports and runs.
    os.environ.update(_ENVIRONMENT)
    import daft

    try:
        if address is not None:
            return _cores_of_cluster(address)
        daft.set_runner_native()
    except daft.exceptions.DaftCoreException as error:
        raise UsageError(
            f"Daft cannot work on {address or 'this machine'}: {error}; a process keeps its first "
            "runner, so use another process"
        ) from error
    return processors()


def _cores_of_cluster(address: str) -> int:
    import daft
    import ray

    try:
        # The cluster's workers import Daft too, and have their own environment.
        ray.init(address, runtime_env={"env_vars": _ENVIRONMENT}, ignore_reinit_error=True)
    except (ConnectionError, ValueError) as error:
        raise UsageError(
            f"no Ray cluster answers at {address}: {error}; give the address that "
            "`ray start --head` prints"
        ) from error
    daft.set_runner_ray()  # uses the connection that `ray.init` made
    return int(ray.cluster_resources()["CPU"])


def _answers(
    work: Work[Item], items: Sequence[Item], address: str | None
) -> "Generator[pa.StructScalar, None, None]":
    """Let Daft work on the items; yield the answers in the order in which they arrive."""
    import daft

    numbers = daft.from_pydict({"number": list(range(len(items)))})
    if address is not None:
        # One item per task: Ray distributes tasks over machines, and Daft does not split a task.
        numbers = numbers.into_partitions(len(items))
    # One process per core, because Python code holds the interpreter's lock.
    answer = daft.func.batch(
        return_dtype=daft.DataType.from_arrow_type(_answer_type()), batch_size=1, use_process=True
    )(_answers_of)
    answers = numbers.select(answer(daft.col("number"), work, items).alias("answer"))
    with closing(answers.to_arrow_iter(results_buffer_size=1)) as batches:
        for batch in batches:
            yield from batch.column("answer")


def _in_order(answers: "Iterator[pa.StructScalar]") -> "Iterator[pa.StructScalar]":
    """Yield answers in order of their numbers; early ones wait.

    Daft's native runner keeps the order, and its Ray runner the order of tasks, but neither
    guarantees it. No more answers wait than Daft gets items at a time.
    """
    early: dict[int, pa.StructScalar] = {}
    number = 0
    for answer in answers:
        early[answer["number"].as_py()] = answer
        while number in early:
            yield early.pop(number)
            number += 1


def _answer_type() -> "pa.DataType":
    import pyarrow as pa

    return pa.struct(
        {
            "number": pa.int64(),
            "batches": pa.large_list(pa.large_binary()),
            "error": pa.large_string(),
            "message": pa.large_string(),
        }
    )


def _answers_of(numbers: Any, work: Work[Item], items: Sequence[Item]) -> "pa.Array":
    """Work on the items of these numbers, in a worker of Daft; `numbers` is a Daft series."""
    import pyarrow as pa

    answers = [_answer_of(number, work, items[number]) for number in numbers.to_pylist()]
    return pa.array(answers, _answer_type())


def _answer_of(number: int, work: Work[Item], item: Item) -> dict[str, Any]:
    batches: list[bytes] = []
    answer = {"number": number, "batches": batches, "error": None, "message": None}
    try:
        batches.extend(map(_bytes_of, work(item)))
    except QuerytierError as error:
        # Daft would wrap the error in one of its types, so it is sent by name.
        answer.update(error=type(error).__name__, message=str(error))
    return answer


def _error_of(answer: "pa.StructScalar") -> QuerytierError:
    kind = getattr(errors, answer["error"].as_py())
    # Without calling the class: the arguments of some errors are not their message.
    error: QuerytierError = kind.__new__(kind, answer["message"].as_py())
    return error


def _bytes_of(batch: "pa.RecordBatch") -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.ipc.new_stream(sink, batch.schema, options=options) as stream:
        stream.write_batch(batch)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _batch_of(content: "pa.LargeBinaryScalar") -> "pa.RecordBatch":
    import pyarrow as pa

    with pa.ipc.open_stream(content.as_buffer()) as stream:
        return stream.read_next_batch()
