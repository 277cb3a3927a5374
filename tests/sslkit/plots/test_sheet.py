"""Sheets of tiles and the text on them."""

from PIL import Image

from sslkit.plots.sheet import Tile, compose, shortened, wrapped


def test_a_sheet_of_one_untitled_tile() -> None:
    assert compose([[Tile("", Image.new("RGB", (5, 7)))], []]).size == (25, 27)


def test_titles_are_cut_to_their_picture():
    assert shortened("cat", 160) == "cat"
    cut = shortened("German short-haired pointer, and more", 100)
    assert cut.endswith("…")
    assert cut.startswith("German")
    assert len(cut) < 20


def test_lines_break_between_words_and_a_long_word_gets_its_own_line() -> None:
    assert wrapped("", 100) == [""]
    assert wrapped("a b", 100) == ["a b"]
    assert wrapped("one two unbreakableunbreakable three", 60) == ["one two", "unbreakableunbreakable", "three"]
