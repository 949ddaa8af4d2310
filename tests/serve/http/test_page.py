"""The service's page in a real browser."""

import pytest

from served import ARTIFACT, ARTIFACTS, serving


@pytest.fixture(scope="module")
def address():
    """Start a service with a shadow; return its address."""
    with serving(ARTIFACT, "--shadow", ARTIFACTS / "format-1") as served:
        yield served.url


@pytest.mark.parametrize("width", [1280, 360])
def test_the_page_shows_the_decision_on_a_typed_query(address, browser, width):
    page = browser.new_page(viewport={"width": width, "height": 900})
    asked, errors = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address)
    page.get_by_role("textbox").fill("Prove that the square root of 2 is irrational, <b>step</b>.")
    with page.expect_response("**/v1/decide") as answered:
        page.get_by_role("button", name="Decide").click()
    decision = answered.value.json()
    page.get_by_text(decision["tier"], exact=False).first.wait_for()
    shown = page.inner_text("body")
    assert decision["tier"] in shown
    assert decision["reason"] in shown
    assert page.locator("b", has_text="step").count() == 0, "what is typed is text, not HTML"
    assert "A challenger decides the same queries silently." in shown
    assert not errors
    assert all(url.startswith(address) for url in asked)
    wide, seen = page.evaluate(
        "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert wide <= seen
    page.close()
