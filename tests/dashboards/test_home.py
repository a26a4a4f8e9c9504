"""Home: what is here, that it is private, what the installation can do."""

import probe
from tests.dashboards.pages import page, plain, texts


def test_home_says_what_is_here():
    app = page("home")
    assert not app.exception
    assert texts(app.title) == ["probe"]
    assert texts(app.header) == ["Generate & trace", "Diagnose & nurse", "Explorer", "This installation"]
    assert any("everything happens on this machine" in text for text in texts(app.markdown))
    assert f"probe         {probe.__version__}" in plain(app)
    assert "Saved traces  0 in " in plain(app)
    assert "verdict" in plain(app)
