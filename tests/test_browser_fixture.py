"""The helper that checks pages sees what is wrong with one."""

from browser_fixture import page_errors


def test_errors_of_a_page_are_seen(browser, tmp_path):
    (tmp_path / "good.html").write_text("<!doctype html><title>x</title><link rel=icon href='data:,'><p>well</p>")
    script = "<script>console.error('told'); missing()</script><img src='http://127.0.0.1:9/x.png'>"
    (tmp_path / "bad.html").write_text(script)
    page = browser.new_page()
    errors = page_errors(page)
    page.goto((tmp_path / "good.html").as_uri())
    assert page.inner_text("p") == "well"
    assert errors == []
    page.goto((tmp_path / "bad.html").as_uri())
    assert any("told" in e for e in errors)
    assert any("missing is not defined" in e for e in errors)
    assert any("asked for http://127.0.0.1:9/x.png" in e for e in errors)
    page.close()


def test_without_a_browser_ci_fails_and_a_desk_skips(pytester, monkeypatch):
    pytester.makeconftest("from browser_fixture import browser")
    pytester.makepyfile("def test_page(browser): pass")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CI", "true")
    pytester.runpytest().assert_outcomes(errors=1)
    monkeypatch.delenv("CI")
    pytester.runpytest().assert_outcomes(skipped=1)
