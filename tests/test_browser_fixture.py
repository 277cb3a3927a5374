"""The helper that judges pages sees what is wrong with one."""

from browser_fixture import page_errors


def test_errors_of_a_page_are_seen(browser, tmp_path):
    (tmp_path / "good.html").write_text("<!doctype html><title>x</title><link rel=icon href='data:,'><p>well</p>")
    script = "<script>console.error('told'); missing()</script><img src='http://127.0.0.1:9/x.png'>"
    (tmp_path / "bad.html").write_text(script)
    page = browser.new_page()
    errors = page_errors(page)
    page.goto((tmp_path / "good.html").as_uri())
    assert page.inner_text("p") == "well" and errors == []
    page.goto((tmp_path / "bad.html").as_uri())
    assert any("told" in e for e in errors) and any("missing is not defined" in e for e in errors)
    assert any("asked for http://127.0.0.1:9/x.png" in e for e in errors)
    page.close()
