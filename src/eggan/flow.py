"""Work on many chunks of pictures in three stages, in this process or on a Ray cluster; what comes out is the same.

A stage is a plain function of one chunk's data: `look` reads and prepares, `infer` holds the model, `finish` encodes
and writes. Here, threads look and finish while this thread infers, with one core as a worker of a cluster does, so that
sums of floats come in the same order everywhere (to look takes longer than to infer). On a cluster they are map stages
of one Ray Data pipeline (one stage where no GPU is used), which has the queues, the back-pressure and the repetition of
what a dead worker had in hand: a stage may run twice for a chunk, so `finish` must leave the same when it does.
"""

from __future__ import annotations

import logging
import os
import pickle
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import torch

from eggan.errors import EgganError

__all__ = ["Stages", "flow"]

Chunk = TypeVar("Chunk")
Result = TypeVar("Result")

AHEAD = 3
"""Chunks that are looked at, or finished, at once in one process."""


LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Else Ray takes 127.0.0.1 for this machine's outer address, at which a cluster on loopback does not listen."""
RUNNING = Path("/tmp/ray/ray_current_cluster")
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


class Stages(NamedTuple, Generic[Chunk, Result]):
    """What is done to a chunk. On a cluster all of it is pickled: functions of modules, or partials of them.

    Attributes:
        look: reads a chunk; many at once.
        load: gives `infer`, from what `look` gave to what `finish` takes; called once in each place where a model is.
        finish: gives what is to be known of the chunk; many at once.
        gpu: whether `infer` runs on a GPU where there is one.
    """

    look: Callable[[Chunk], Any]
    load: Callable[[], Callable[[Any], Any]]
    finish: Callable[[Any], Result]
    gpu: bool = False


def flow(chunks: Sequence[Chunk], stages: Stages[Chunk, Result], cluster: str | None = None) -> Iterator[Result]:
    """Take chunks through the stages; their results come in the order of the chunks.

    Args:
        chunks: each is one unit of work: what is lost where a machine dies.
        stages: what is done to each.
        cluster: None works in this process; `auto` on the Ray cluster that runs on this machine, or on one that is
            started here for the time being; an address on that one.

    Raises:
        EgganError: there is no such cluster, or Ray is not installed; or what a stage raises.
    """
    if not chunks:
        return iter(())
    return _here(chunks, stages) if cluster is None else _on_ray(chunks, stages, cluster)


def _here(chunks: Sequence[Chunk], stages: Stages[Chunk, Result]) -> Iterator[Result]:
    infer = stages.load()

    def on_one_core(looked: Any) -> Any:  # noqa: ANN401
        cores = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return infer(looked)
        finally:
            torch.set_num_threads(cores)

    with ThreadPoolExecutor(AHEAD) as lookers, ThreadPoolExecutor(AHEAD) as finishers:
        try:
            looked = _ahead(lookers, stages.look, iter(chunks))
            yield from _ahead(finishers, stages.finish, map(on_one_core, looked))
        finally:
            for pool in (lookers, finishers):
                pool.shutdown(cancel_futures=True)


def _ahead(pool: ThreadPoolExecutor, function: Callable[[Any], Any], values: Iterator[Any]) -> Iterator[Any]:
    """As `map`, with the next few values handed to the pool before they are asked for.

    Where `values` fails or is interrupted, what was handed over before comes first.
    """
    waiting: deque[Future[Any]] = deque()
    while True:
        failed: BaseException | None = None
        try:
            waiting.append(pool.submit(function, next(values)))
        except BaseException as error:
            failed = error
        while waiting and (failed or len(waiting) > AHEAD or waiting[0].done()):
            yield waiting.popleft().result()
        if isinstance(failed, StopIteration):
            return
        if failed is not None:
            raise failed


def _on_ray(chunks: Sequence[Chunk], stages: Stages[Chunk, Result], cluster: str) -> Iterator[Result]:
    ray = _connect(cluster)
    rows = [{"chunk": _packed(chunk)} for chunk in chunks]
    data = ray.data.from_items(rows, override_num_blocks=len(rows))
    kinds = ray.cluster_resources()
    if stages.gpu and (gpus := int(kinds.get("GPU", 0))):
        data = data.map(_Stage(stages.look), num_cpus=1)
        data = data.map(_Model, fn_constructor_args=(stages.load,), num_gpus=1, compute=_actors(ray, gpus))
        data = data.map(_Stage(stages.finish), num_cpus=1)
    else:  # a core at a time: to hand crops from process to process would buy nothing
        cores = max(1, int(kinds.get("CPU", 1)))
        data = data.map(_Whole, fn_constructor_args=(stages,), num_cpus=1, compute=_actors(ray, cores))
    try:
        for row in data.iter_rows():
            yield pickle.loads(row["chunk"])
    except ray.exceptions.RayError as error:
        raise EgganError(
            f"The Ray cluster gave up ({_last_line(error)}); the same command goes on from what is finished."
        ) from error
    finally:
        ray.shutdown()


class _Stage:
    """A stage as Ray Data calls it: a row in, a row out, the chunk in it pickled."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return {"chunk": _packed(self.function(pickle.loads(row["chunk"])))}


class _Model(_Stage):
    """A stage with a model, which is loaded once in each process that holds one."""

    def __init__(self, load: Callable[[], Callable[[Any], Any]]) -> None:
        super().__init__(load())


class _Whole(_Stage):
    """All three stages in one process."""

    def __init__(self, stages: Stages[Any, Any]) -> None:
        infer = stages.load()
        super().__init__(lambda chunk: stages.finish(infer(stages.look(chunk))))


def _actors(ray: Any, most: int) -> Any:  # noqa: ANN401
    return ray.data.ActorPoolStrategy(min_size=1, max_size=most)


def _packed(value: object) -> bytes:
    return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)


def _connect(cluster: str) -> Any:  # noqa: ANN401
    """Ray, connected. A cluster that is started here listens on loopback alone, without dashboard and statistics."""
    alone = cluster == "auto" and not os.environ.get("RAY_ADDRESS") and not RUNNING.is_file()
    loopback = alone or cluster.rpartition(":")[0] in ("127.0.0.1", "localhost")
    for name, value in (QUIET | LOOPBACK if loopback else QUIET).items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.data
    except ImportError:
        raise EgganError('--cluster works by Ray: pip install "eggan[ray]".') from None
    if loopback:  # Ray reads LOOPBACK when it is first imported, which may have been elsewhere
        ray._private.ray_constants.ENABLE_RAY_CLUSTER = False
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    context.execution_options.preserve_order = True
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        if alone:
            ray.init(include_dashboard=False, _node_ip_address="127.0.0.1", **quiet)
        else:
            ray.init(address=cluster, **quiet)
    except Exception as error:  # Ray raises the bare Exception where a node took too long to start
        raise EgganError(
            f"Ray did not start here ({_last_line(error)}): repeat the command, or leave --cluster out."
            if alone
            else f"There is no Ray cluster at {cluster} ({_last_line(error)}): give auto, or the address of ray start; "
            "after a cluster that died, run ray stop."
        ) from None
    return ray


def _last_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip().rstrip(".")
