"""Progress that others hear of."""

from __future__ import annotations

import threading

import pytest

from segswap.progress import heard_by, progress


def test_a_listener_is_told_of_each_item_in_its_block_alone():
    heard = []
    with heard_by(lambda *told: heard.append(told)):
        assert list(progress("abc", "letters")) == ["a", "b", "c"]
    list(progress("de", "others"))
    assert heard == [("letters", done, 3) for done in range(3)]


def test_a_listener_hears_its_own_thread_only_and_may_end_the_work():
    heard = []

    def refuse(what: str, done: int, total: int | None) -> None:
        heard.append(what)
        raise KeyError(what)

    with heard_by(refuse):
        other = threading.Thread(target=lambda: list(progress([1], "elsewhere")))
        other.start()
        other.join()
        assert heard == []
        with pytest.raises(KeyError):
            list(progress([1], "here"))


def test_a_silent_bar_yields_all_the_same():
    with heard_by(lambda *told: pytest.fail("a silent bar was heard")):
        assert list(progress("ab", "silent", disable=True)) == ["a", "b"]
    assert list(progress("ab", "silent", disable=True)) == ["a", "b"]
