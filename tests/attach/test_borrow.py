"""What is borrowed is given back."""

import copy
import threading
from contextlib import ExitStack
from functools import partial
from itertools import permutations
from math import inf, prod

import pytest

from probe.attach.borrow import around, lease
from probe.errors import AlreadyRecording


class Machine:
    def run(self, x: int) -> int:
        return x + 1


def test_a_stand_in_wraps_one_object_and_goes_away():
    machine, other = Machine(), Machine()
    with around(machine, "run", lambda original, args, kwargs: 10 * original(*args, **kwargs)):
        assert machine.run(1) == 20 and other.run(1) == 2
    assert machine.run(1) == 2 and "run" not in vars(machine)


def test_stand_ins_nest_and_go_away_when_the_body_raises():
    machine = Machine()
    with pytest.raises(KeyboardInterrupt), around(machine, "run", lambda original, args, kwargs: original(*args) * 2):
        with around(machine, "run", lambda original, args, kwargs: original(*args) + 100):
            assert machine.run(1) == 104
        assert machine.run(1) == 4
        raise KeyboardInterrupt
    assert "run" not in vars(machine)


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("own", [False, True])
def test_stand_ins_that_go_away_in_any_order_leave_the_others_and_then_nothing(order: tuple[int, ...], own: bool):
    machine, factors = Machine(), (2, 3, 5)
    if own:
        machine.run = mine = lambda x: x + 1
    stacks = [ExitStack() for _ in factors]
    for stack, factor in zip(stacks, factors, strict=True):
        wrapper = partial(lambda factor, original, args, kwargs: factor * original(*args, **kwargs), factor)
        stack.enter_context(around(machine, "run", wrapper))
    left = prod(factors)
    for gone in order:
        assert machine.run(0) == left
        stacks[gone].close()
        left //= factors[gone]
    assert machine.run(0) == 1 and (machine.run is mine if own else "run" not in vars(machine))


def test_a_users_own_replacement_survives():
    machine = Machine()
    own = machine.run = lambda x: -x
    with around(machine, "run", lambda original, args, kwargs: original(*args) * 2):
        assert machine.run(3) == -6
    assert machine.run is own


class Counter(Machine):
    def __init__(self) -> None:
        self.count = 0

    def run(self, x: int) -> int:
        self.count += 1
        return x + self.count


def test_a_deep_copy_has_the_method_itself_and_its_own_state():
    machine = Counter()
    with around(machine, "run", lambda original, args, kwargs: 10 * original(*args, **kwargs)):
        twin = copy.deepcopy(machine)
        assert (twin.run(0), twin.run(0), machine.run(0)) == (1, 2, 10)
        state = copy.deepcopy(vars(machine))  # put back later, as pipelines of panoramas do
        vars(machine).update(state)
        assert (machine.run(0), machine.count) == (20, 2)
    assert "run" not in vars(machine) and machine.run(0) == 3


def test_one_thread_may_nest_its_lease():
    machine = Machine()
    with lease(machine), lease(machine):
        pass
    with lease(machine):
        pass


def test_one_may_wait_for_ever():
    with lease(Machine(), wait=inf):
        pass


def test_another_thread_is_refused_and_told_what_to_do():
    machine, problems = Machine(), []

    def second() -> None:
        try:
            with lease(machine):
                problems.append("got it")
        except AlreadyRecording as problem:
            problems.append(str(problem))

    with lease(machine):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert "another thread" in problems[0] and "wait=seconds" in problems[0]


def test_a_waiting_thread_gets_the_lease_when_it_is_free():
    machine, order = Machine(), []
    held, release = threading.Event(), threading.Event()

    def first() -> None:
        with lease(machine):
            held.set()
            release.wait(5)
            order.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    held.wait(5)
    threading.Timer(0.05, release.set).start()
    with lease(machine, wait=5.0):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]


def test_another_thread_may_give_it_back():
    """Servers run the steps of one generator in several threads."""
    machine, held = Machine(), ExitStack()
    thread = threading.Thread(target=lambda: held.enter_context(lease(machine)))
    thread.start()
    thread.join()
    with pytest.raises(AlreadyRecording), lease(machine):
        pass
    held.close()
    with lease(machine):
        pass
