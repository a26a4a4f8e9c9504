"""Borrowing: what is put on a pipeline is taken off again, whatever happens in between."""

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from probe.errors import AlreadyRecording

_leases: "weakref.WeakKeyDictionary[Any, threading.RLock]" = weakref.WeakKeyDictionary()
_guard = threading.Lock()


@contextmanager
def lease(weights: Any, wait: float = 0.0) -> Iterator[None]:
    """Hold a module's weights; the same thread may nest. Raises AlreadyRecording after `wait` seconds.

    Schedulers and hooks are shared by all threads that use a pipeline, so two runs at once would mix their maps.
    """
    with _guard:
        lock = _leases.setdefault(weights, threading.RLock())
    if not lock.acquire(timeout=wait) if wait > 0 else not lock.acquire(blocking=False):
        raise AlreadyRecording(
            "these weights are being recorded in another thread; wait for it (record(..., wait=seconds)), "
            "or load the model once per thread"
        )
    try:
        yield
    finally:
        lock.release()


def here(hook: Callable[..., Any]) -> Callable[..., Any]:
    """The hook in this thread; another thread that runs the same module passes by unseen."""
    thread = threading.get_ident()

    def guarded(*args: Any, **kwargs: Any) -> Any:
        return hook(*args, **kwargs) if threading.get_ident() == thread else None

    return guarded


Around = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]


@contextmanager
def around(owner: Any, name: str, wrapper: Around) -> Iterator[None]:
    """Let `wrapper(original, args, kwargs)` stand in for a method of one object, in this thread alone.

    The class is not touched.
    """
    own = vars(owner)
    before = own.get(name)
    original = getattr(owner, name)
    thread = threading.get_ident()

    def stand_in(*args: Any, **kwargs: Any) -> Any:
        return wrapper(original, args, kwargs) if threading.get_ident() == thread else original(*args, **kwargs)

    vars(stand_in)["__wrapped__"] = original  # inspect.signature still tells the truth
    own[name] = stand_in
    try:
        yield
    finally:
        if before is None:
            own.pop(name, None)
        else:
            own[name] = before
