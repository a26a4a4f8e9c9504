"""Borrowing: what is put on a pipeline is taken off again, whatever happens in between."""

import copy
import inspect
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache
from itertools import islice
from typing import Any

from probe.errors import AlreadyRecording

ONCE = (
    "this recording has been entered before, and one recording is one `with` block (any number of generations run "
    "in it): make another with probe.record(pipe, ...)"
)
_leases: "weakref.WeakKeyDictionary[Any, _Lease]" = weakref.WeakKeyDictionary()
_guard = threading.Lock()


class _Lease:
    """One thread holds it, as often as it likes. Any may give it back: a generator's steps run in several threads."""

    def __init__(self) -> None:
        self._free, self._owner, self._depth = threading.Condition(), 0, 0

    def take(self, wait: float) -> bool:
        """Whether it is held now, after at most so many seconds."""
        mine = threading.get_ident()
        with self._free:
            if not self._free.wait_for(lambda: self._owner in (0, mine), min(wait, threading.TIMEOUT_MAX)):
                return False
            self._owner, self._depth = mine, self._depth + 1
            return True

    def give_back(self) -> None:
        with self._free:
            self._depth -= 1
            if not self._depth:
                self._owner = 0
                self._free.notify_all()


@contextmanager
def lease(weights: Any, wait: float = 0.0) -> Iterator[None]:
    """Hold a module's weights; the same thread may nest. Raises AlreadyRecording after `wait` seconds.

    Schedulers and hooks are shared by all threads that use a pipeline, so two runs at once would mix their maps.
    """
    with _guard:
        held = _leases.setdefault(weights, _Lease())
    if not held.take(wait):
        raise AlreadyRecording(
            "these weights are being recorded in another thread; wait for it (record(..., wait=seconds)), "
            "or load the model once per thread"
        )
    try:
        yield
    finally:
        held.give_back()


@contextmanager
def leases(modules: Iterable[Any], wait: float = 0.0) -> Iterator[None]:
    """Hold the weights of several modules, in their order."""
    with ExitStack() as stack:
        for module in modules:
            stack.enter_context(lease(module, wait))
        yield


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

    def __init__(self, owner: Any, name: str, wrapper: Around):
        self.before = vars(owner).get(name)  # what the object itself had: nothing, another stand-in, or a user's own
        self.__wrapped__ = getattr(owner, name)  # inspect.signature still tells the truth
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
    mine = vars(owner)[name] = _StandIn(owner, name, wrapper)
    try:
        yield
    finally:
        _unlink(owner, name, mine)


def _unlink(owner: Any, name: str, mine: _StandIn) -> None:
    """Take one stand-in away; those that were put on after it and are still there stand in for what it stood in for."""
    own = vars(owner)
    above = _directly_above(own.get(name), mine)
    if above is not None:
        above.before, above.__wrapped__ = mine.before, mine.__wrapped__
    elif mine.before is None:
        own.pop(name, None)
    else:
        own[name] = mine.before


def _directly_above(top: Any, mine: _StandIn) -> _StandIn | None:
    """The stand-in that was put on next after mine, if there is one."""
    while isinstance(top, _StandIn) and top is not mine:
        if top.before is mine:
            return top
        top = top.before
    return None
