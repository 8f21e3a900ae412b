"""The API's description at `/docs` in a real Chromium: it shows every route and works without any other host."""

from __future__ import annotations

import httpx
import pytest

pytestmark = pytest.mark.browser


@pytest.fixture
def page(browser, base):
    browser.base = base
    browser.driver.get("about:blank")
    browser.collect()
    browser.complaints, browser.sent = [], {}
    browser.driver.get(f"{base}/docs")
    browser.until(lambda: browser.all(".opblock"), "the routes")
    return browser


def test_every_route_is_shown_and_nothing_else_is_asked(page, base):
    shown = {element.get_attribute("data-path") for element in page.all(".opblock-summary-path")}
    assert shown == set(httpx.get(f"{base}/openapi.json").json()["paths"])
    # The fixture asserts that no other host was asked and that the policy stopped nothing.
    page.collect()
    assert {url.removeprefix(base) for url in page.requests} >= {"/docs", "/openapi.json"}


def test_a_request_can_be_tried_from_the_page(page, worker):
    page.run("document.querySelector('#operations-generation-generate_generate_post button').click()")
    page.until(lambda: page.all("#operations-generation-generate_generate_post textarea"), "the body")
    page.run(
        "const area = document.querySelector('#operations-generation-generate_generate_post textarea');"
        "Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, 'value').set.call(area, arguments[0]);"
        "area.dispatchEvent(new Event('input', {bubbles: true}));",
        '{"inputs": "abc", "parameters": {"max_new_tokens": 3}}',
    )
    page.run("document.querySelector('#operations-generation-generate_generate_post .execute').click()")
    page.until(
        lambda: (
            "generated_text"
            in page.text("#operations-generation-generate_generate_post .live-responses-table")
        ),
        "the answer",
    )
    assert worker.posts[0][0]["prompt"] == "abc"
