"""Pictures of neighbours: frames, and which classes a confusion matrix shows."""

import numpy as np
from PIL import Image

from sslkit.plots.inspect.neighbours import RIGHT, WRONG, classes_shown, confusion_figure, framed
from sslkit.probes.inspect.neighbours import most_confused


def test_frames_differ_in_colour_and_in_line():
    picture = Image.new("RGB", (32, 32), (200, 200, 200))
    colours = {right: [framed(picture, right).getpixel((x, 2)) for x in range(120)] for right in (True, False)}
    blue, orange = (tuple(int(code[i : i + 2], 16) for i in (1, 3, 5)) for code in (RIGHT, WRONG))
    assert set(colours[True]) == {blue}
    assert set(colours[False]) == {orange, (255, 255, 255)}
    sides = {framed(picture, False).getpixel((x, y)) for x in (2, 119) for y in range(12, 16)}
    assert sides == {(255, 255, 255)}


def test_of_many_classes_the_most_confused_are_drawn():
    counts = np.diag(np.full(50, 9))
    counts[40, 7], counts[7, 30] = 5, 2
    pairs = most_confused(counts, counts.size)
    assert classes_shown(counts, pairs) == [7, 30, 40]
    axes = confusion_figure(counts, [7, 30, 40], [f"c{i}" for i in range(50)]).axes[0]
    assert [text.get_text() for text in axes.texts] == ["82", "18", "100", "36", "64"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["c7", "c30", "c40"]
    assert classes_shown(np.eye(20, dtype=int), []) == list(range(20))
