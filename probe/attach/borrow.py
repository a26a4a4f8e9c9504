"""Borrowing: what is put on a pipeline is taken off again, whatever happens in between."""

import copy
import inspect
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from itertools import islice
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


def by_name(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """What a function was called with, by name. Raises TypeError for what it does not take."""
    if not inspect.ismethod(function):
        return dict(inspect.signature(function).bind_partial(*args, **kwargs).arguments)
    given = _signature(function.__func__).bind_partial(function.__self__, *args, **kwargs).arguments
    return dict(islice(given.items(), 1, None))


@cache
def _signature(function: Callable[..., Any]) -> inspect.Signature:
    """Of a function that lives as long as its class."""
    return inspect.signature(function)


Around = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]


class _StandIn:
    """What is called in the place of a method of its owner."""

    def __init__(self, owner: Any, original: Callable[..., Any], wrapper: Around):
        self.__wrapped__ = original  # inspect.signature still tells the truth
        self._owner = id(owner)
        self._wrapper, self._thread = wrapper, threading.get_ident()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() != self._thread:
            return self.__wrapped__(*args, **kwargs)
        return self._wrapper(self.__wrapped__, args, kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """In a copy of the owner its own method, for pipelines copy schedulers as they run: for sound, for each frame.

        Where the owner's attributes alone are copied, to be put back later, this very stand-in.
        """
        return copy.deepcopy(self.__wrapped__, memo) if self._owner in memo else self


@contextmanager
def around(owner: Any, name: str, wrapper: Around) -> Iterator[None]:
    """Let `wrapper(original, args, kwargs)` stand in for a method of one object, in this thread alone.

    The class is not touched, and a deep copy of the object has the method itself: its own.
    """
    own = vars(owner)
    before = own.get(name)
    own[name] = _StandIn(owner, getattr(owner, name), wrapper)
    try:
        yield
    finally:
        if before is None:
            own.pop(name, None)
        else:
            own[name] = before
