"""Suffixes of images: what the extras add, asked once and not for every file."""

from sslkit.data.prepare import formats
from sslkit.data.prepare.samples import looks_like_samples


def test_extras_are_looked_for_once_however_many_files_there_are(monkeypatch):
    """Looking took 25 s of the 35 for an archive of 60,000 files."""
    asked = []
    monkeypatch.setattr(formats, "find_spec", lambda module: asked.append(module))
    formats.readable.cache_clear()
    try:
        assert not looks_like_samples(f"train/cat/{i}.jpg" for i in range(1000))
        assert ".jpg" in formats.readable()
        assert ".heic" not in formats.readable()
    finally:
        formats.readable.cache_clear()
    assert len(asked) == len(formats.PLUGINS)
