"""Who is gone: only who was seen, and has been away long enough without a break."""

from __future__ import annotations

from headrace.presence import Presence

GRACE_S = 5.0


def seen(*names: str) -> Presence:
    presence = Presence(GRACE_S)
    assert presence.look(set(names), 0.0) == (set(names), [])
    return presence


def test_one_is_gone_after_the_grace_and_not_before() -> None:
    presence = seen("a", "b")
    for now in (1.0, 3.0, 5.9):
        assert presence.look({"b"}, now) == (set(), [])
    assert presence.look({"b"}, 6.0) == (set(), ["a"])


def test_one_that_comes_back_has_its_whole_grace_again() -> None:
    presence = seen("a")
    presence.look(set(), 1.0)
    presence.look({"a"}, 5.0)
    assert presence.look(set(), 6.5) == (set(), [])
    assert presence.look(set(), 11.4) == (set(), [])
    assert presence.look(set(), 11.5) == (set(), ["a"])


def test_one_that_was_never_seen_is_never_missed() -> None:
    presence = seen("a")
    presence.forget("a")
    assert presence.look(set(), 100.0) == (set(), [])


def test_one_that_another_leader_saw_is_missed() -> None:
    presence = Presence(GRACE_S)
    presence.learn(["a"])
    presence.look(set(), 1.0)
    assert presence.look(set(), 6.0) == (set(), ["a"])


def test_one_known_to_be_silent_is_missed_since_then() -> None:
    presence = Presence(GRACE_S)
    presence.learn(["a", "b"])
    presence.silent("a", -3.0)
    assert presence.look(set(), 0.0) == (set(), [])
    assert presence.look(set(), 2.0) == (set(), ["a"])


def test_a_silent_one_that_is_connected_is_not_missed() -> None:
    presence = Presence(GRACE_S)
    presence.silent("a", -100.0)
    assert presence.look({"a"}, 0.0) == ({"a"}, [])


def test_nobody_is_missed_while_all_have_to_come_back() -> None:
    presence = seen("a")
    presence.look(set(), 1.0)
    presence.blind(10.0)
    assert presence.look(set(), 7.0) == (set(), [])
    assert presence.look(set(), 14.9) == (set(), [])
    assert presence.look(set(), 15.0) == (set(), ["a"])


def test_one_that_is_gone_is_gone_until_it_is_forgotten() -> None:
    presence = seen("a")
    presence.look(set(), 1.0)
    assert presence.look(set(), 7.0) == (set(), ["a"])
    assert presence.look(set(), 8.0) == (set(), ["a"])  # what had to be done for it may have failed
    presence.forget("a")
    assert presence.look({"a"}, 9.0) == ({"a"}, [])
