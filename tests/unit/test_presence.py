"""Who is gone: only who was seen, and has been away long enough without a break."""

from __future__ import annotations

from headrace.maintenance.presence import Presence

GRACE_S = 5.0
NOTHING: tuple[set[str], set[str], list[str]] = (set(), set(), [])


def seen(*names: str) -> Presence:
    presence = Presence(GRACE_S)
    assert presence.look(set(names), 0.0) == (set(names), set(), [])
    return presence


def test_one_is_gone_after_the_grace_and_not_before() -> None:
    presence = seen("a", "b")
    assert presence.look({"b"}, 1.0) == (set(), {"a"}, [])
    for now in (3.0, 5.9):
        assert presence.look({"b"}, now) == NOTHING
    assert presence.look({"b"}, 6.0) == (set(), set(), ["a"])


def test_one_that_comes_back_has_its_whole_grace_again() -> None:
    presence = seen("a")
    presence.look(set(), 1.0)
    assert presence.look({"a"}, 5.0) == ({"a"}, set(), [])
    assert presence.look(set(), 6.5) == (set(), {"a"}, [])
    assert presence.look(set(), 11.4) == NOTHING
    assert presence.look(set(), 11.5) == (set(), set(), ["a"])


def test_one_that_was_never_seen_is_never_missed() -> None:
    presence = seen("a")
    presence.forget("a")
    assert presence.look(set(), 100.0) == NOTHING


def test_one_that_another_leader_saw_is_missed() -> None:
    presence = Presence(GRACE_S)
    presence.learn(["a"], {})
    presence.look(set(), 1.0)
    assert presence.look(set(), 6.0) == (set(), set(), ["a"])


def test_one_that_another_leader_missed_is_missed_since_then() -> None:
    presence = Presence(GRACE_S)
    presence.learn(["a", "b"], {"a": -3.0})
    assert presence.look(set(), 0.0) == (set(), {"b"}, [])
    assert presence.look(set(), 2.0) == (set(), set(), ["a"])


def test_one_that_another_leader_missed_and_that_is_connected_has_come_back() -> None:
    presence = Presence(GRACE_S)
    presence.learn(["a"], {"a": -100.0})
    assert presence.look({"a"}, 0.0) == ({"a"}, set(), [])
    assert presence.look(set(), 1.0) == (set(), {"a"}, [])


def test_what_one_missed_before_somebody_else_led_is_forgotten() -> None:
    presence = seen("a")
    presence.look(set(), 1.0)
    presence.learn(["a"], {})
    assert presence.look(set(), 100.0) == (set(), {"a"}, [])


def test_nobody_is_missed_while_all_have_to_come_back() -> None:
    presence = seen("a", "b")
    presence.look({"b"}, 1.0)
    presence.blind(10.0)
    presence.learn(["a", "b"], {"b": 2.0})
    assert presence.look(set(), 7.0) == (set(), {"a"}, [])
    assert presence.look(set(), 14.9) == NOTHING
    assert presence.look(set(), 15.0) == (set(), set(), ["a", "b"])


def test_one_that_is_gone_is_gone_until_it_is_forgotten() -> None:
    presence = seen("a")
    presence.look(set(), 1.0)
    assert presence.look(set(), 7.0).gone == ["a"]
    assert presence.look(set(), 8.0).gone == ["a"]  # what had to be done for it may have failed
    presence.forget("a")
    assert presence.look({"a"}, 9.0) == ({"a"}, set(), [])


def test_it_says_when_the_next_one_is_gone() -> None:
    presence = seen("a", "b")
    assert presence.due_at is None
    presence.look({"b"}, 1.0)
    presence.look(set(), 2.0)
    due = [presence.due_at]
    presence.forget("a")
    due.append(presence.due_at)
    presence.look({"b"}, 3.0)
    assert [*due, presence.due_at] == [1.0 + GRACE_S, 2.0 + GRACE_S, None]
