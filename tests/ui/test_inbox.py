"""Requests of a view that come late, early or twice are handled once, in the order in which they were made."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.ui.table.inbox import Inbox


@given(st.permutations(range(1, 7)), st.lists(st.integers(1, 6), max_size=8), st.randoms())
def test_any_way_of_arrival_is_the_same(order: list[int], repeated: list[int], random: Any) -> None:
    arrivals = [*order, *repeated]
    random.shuffle(arrivals)
    taken: list[int] = []
    told_again: list[int] = []
    inbox = Inbox(lambda one: taken.append(one["turn"]), lambda one: told_again.append(one["turn"]))
    for turn in arrivals:
        inbox.put({"view": "a", "turn": turn})
    assert taken == [1, 2, 3, 4, 5, 6]
    assert set(told_again) <= set(repeated)


def test_views_do_not_wait_for_one_another() -> None:
    taken: list[tuple[Any, Any]] = []
    inbox = Inbox(lambda one: taken.append((one.get("view"), one.get("turn"))), lambda _: None)
    inbox.put({"view": "a", "turn": 2})
    inbox.put({"view": "b", "turn": 1})
    inbox.put({"type": "dismiss"})
    inbox.put({"view": "a", "turn": True})
    assert taken == [("b", 1), (None, None), ("a", True)]
    inbox.put({"view": "a", "turn": 1})
    assert taken[3:] == [("a", 1), ("a", 2)]


def test_a_request_in_another_thread_waits_for_the_one_before_it() -> None:
    handled: list[int] = []
    began, go_on = threading.Event(), threading.Event()

    def take(request: Any) -> None:
        if request["turn"] == 1:
            began.set()
            go_on.wait(20)
        handled.append(request["turn"])

    inbox = Inbox(take, lambda _: None)
    threads = [threading.Thread(target=inbox.put, args=({"view": "a", "turn": turn},)) for turn in (1, 2)]
    threads[0].start()
    assert began.wait(20)
    threads[1].start()
    go_on.set()
    for thread in threads:
        thread.join(20)
    assert handled == [1, 2]


@pytest.mark.parametrize("late_first", [False, True])
def test_an_edit_that_is_asked_for_again_is_made_once(session: Any, wire: Any, late_first: bool) -> None:
    first = {"type": "edit", "action": "bits", "rows": [1], "bits": 3, "id": "v-1", "view": "v", "turn": 1}
    second = {"type": "edit", "action": "bits", "rows": [1], "bits": 6, "id": "v-2", "view": "v", "turn": 2}
    for message in (second, first) if late_first else (first, second):
        wire.ask(**message)
    assert session.version == 2
    again = wire.ask(**first)
    assert [content for content, _ in again] == [{"type": "here", "ack": "v-1", "version": 2}]
    assert session.version == 2
    (name,) = np.array(list(session.plan.choices))[[1]]
    assert session.plan.choices[name].bits == 6, "the later edit counts, whichever comes first"
    wire.agrees_with(session)
