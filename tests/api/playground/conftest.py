"""A real headless Chromium, watched: what it logs, what it fetches."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from selenium.webdriver import ActionChains, Chrome, ChromeOptions, ChromeService, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

PATIENCE_S = 15


class BrowserMissingError(RuntimeError):
    """Says how to get what is missing."""


def _program(*names: str) -> str:
    for name in names:
        if (found := shutil.which(name)) is not None:
            return found
    raise BrowserMissingError(
        f"{names[0]} is not installed, and the playground is tested in a real browser. "
        "On Debian: apt-get install chromium chromium-driver; to leave these tests out: -m 'not browser'"
    )


class Browser:
    """One tab. What went wrong in it since the last `open` is in `complaints` and `strangers`."""

    def __init__(self) -> None:
        options = ChromeOptions()
        options.binary_location = _program("chromium", "chromium-browser", "google-chrome")
        for flag in (
            "headless=new",
            "no-sandbox",
            "disable-gpu",
            "disable-quic",
            "disable-dev-shm-usage",
            "no-first-run",
            "disable-background-networking",
            "disable-component-update",
            "disable-sync",
            "window-size=1280,1000",
        ):
            options.add_argument(f"--{flag}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = Chrome(options=options, service=ChromeService(_program("chromedriver")))
        self.driver.set_script_timeout(PATIENCE_S)
        self.base = ""
        self.complaints: list[str] = []
        self.sent: dict[str, str] = {}

    def open(self, base: str, fragment: str = "") -> Browser:
        """The playground of `base` as someone sees it who has never been there."""
        self.base = base
        self.driver.get("about:blank")
        self.collect()
        self.complaints, self.sent = [], {}
        self.cdp("Storage.clearDataForOrigin", origin=base, storageTypes="all")
        self.driver.get(f"{base}/{fragment}")
        self.run("sessionStorage.clear()")
        self.until(lambda: self.run("return document.body.dataset.ready === 'true'"), "the page to be ready")
        return self

    def collect(self) -> None:
        """Take over what the browser has logged so far."""
        for entry in self._log("browser"):
            # A refusal by the gateway is in the log as a failed request; the page's answer to it is tested.
            if entry["level"] in ("SEVERE", "WARNING") and entry["source"] != "network":
                self.complaints.append(entry["message"])
        for entry in self._log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                self.sent[message["params"]["requestId"]] = message["params"]["request"]["url"]
            elif message["method"] == "Network.loadingFailed" and message["params"].get("blockedReason"):
                # Chromium tells of what it means to ask for before its own policy check stops it.
                self.sent.pop(message["params"]["requestId"], None)

    def _log(self, kind: str) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = self.driver.get_log(kind)  # type: ignore[no-untyped-call]
        return entries

    @property
    def requests(self) -> list[str]:
        """What has left the browser."""
        return list(self.sent.values())

    @property
    def strangers(self) -> list[str]:
        """Requests to anything but the gateway."""
        home = urlsplit(self.base).netloc
        return [url for url in self.requests if urlsplit(url).netloc != home and not _local(url)]

    def cdp(self, command: str, **arguments: Any) -> Any:
        return self.driver.execute_cdp_cmd(command, arguments)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def find(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        found = self.run("return document.querySelector(arguments[0])?.textContent ?? ''", selector)
        return str(found)

    def click(self, selector: str) -> None:
        element = self.find(selector)
        self.run("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def type(self, selector: str, text: str) -> None:
        """In place of what stands there, as a person would: all marked, then overwritten."""
        self.find(selector).send_keys(Keys.CONTROL, "a")
        self.find(selector).send_keys(text)

    def press(self, *keys: str) -> None:
        """The keys all together, wherever the focus is."""
        chain = ActionChains(self.driver)
        for key in keys:
            chain.key_down(key)
        for key in reversed(keys):
            chain.key_up(key)
        chain.perform()

    def hover(self, element: WebElement) -> None:
        ActionChains(self.driver).move_to_element(element).perform()

    def until(self, true: Callable[[], Any], what: str) -> Any:
        wait = WebDriverWait(self.driver, PATIENCE_S, poll_frequency=0.03)
        return wait.until(lambda _: true(), f"waited {PATIENCE_S} s for {what}")

    def generate(self) -> None:
        """Ctrl+Enter, and wait until it is done."""
        self.press(Keys.CONTROL, Keys.ENTER)
        self.idle()

    def idle(self) -> None:
        self.until(lambda: not self.run("return document.body.classList.contains('busy')"), "the end of work")

    def clipboard(self) -> str:
        return str(self.run("return navigator.clipboard.readText()"))


def _local(url: str) -> bool:
    return urlsplit(url).scheme in ("data", "blob", "about")


@pytest.fixture(scope="session")
def _chromium() -> Iterator[Browser]:
    browser = Browser()
    yield browser
    browser.driver.quit()


@pytest.fixture
def browser(_chromium: Browser) -> Iterator[Browser]:
    """Chromium. After each test it must have complained of nothing and asked nobody but the gateway."""
    yield _chromium
    _chromium.collect()
    _chromium.cdp("Emulation.setEmulatedMedia", features=[])
    _chromium.cdp("Emulation.clearDeviceMetricsOverride")
    assert _chromium.complaints == []
    assert _chromium.strangers == []
    assert _chromium.requests, "the browser's requests were not seen, so this check says nothing"
