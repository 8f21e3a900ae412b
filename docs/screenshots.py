"""Pictures of the playground for the pages: `python docs/screenshots.py` while `make serve` runs.

Drives a headless Chromium (Debian: chromium chromium-driver) over the gateway at --base with fixed seeds, so that
the pictures change only when the page or the models do.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from selenium.webdriver import ActionChains, Chrome, ChromeOptions, ChromeService, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

FOLDER = Path(__file__).resolve().parent / "images"
PATIENCE_S = 60
DESK, PHONE = (1280, 1000, 1), (375, 812, 2)
Act = Callable[[Chrome], None]


@dataclass(frozen=True)
class Picture:
    """`asked` stands in the address; `act` is done once the page is ready."""

    name: str
    asked: dict[str, str]
    act: Act
    size: tuple[int, int, int] = DESK
    theme: str = "light"


def write(browser: Chrome) -> None:
    """Ctrl+Enter, and wait for the end."""
    ActionChains(browser).key_down(Keys.CONTROL).send_keys(Keys.ENTER).key_up(Keys.CONTROL).perform()
    until(browser, "return !document.body.classList.contains('busy')")


def heat(browser: Chrome) -> None:
    """A text with its confidence, the pointer over one of its letters."""
    write(browser)
    browser.find_element(By.CSS_SELECTOR, "#views label:nth-of-type(2)").click()
    letters = browser.find_elements(By.CSS_SELECTOR, "#write-text .token.shade-3")
    ActionChains(browser).move_to_element(letters[len(letters) // 3]).perform()


def heat_by_touch(browser: Chrome) -> None:
    write(browser)
    browser.find_element(By.CSS_SELECTOR, "#views label:nth-of-type(2)").click()


def keep_two(browser: Chrome) -> None:
    """A list of names, two of them kept."""
    write(browser)
    for star in browser.find_elements(By.CSS_SELECTOR, "#lists .star")[2:6:3]:
        star.click()


HARBOUR = {"model": "prose", "prompt": "The harbour was quiet when", "seed": "11", "t": "0.6", "len": "420"}
NAMES = {"model": "names", "mode": "list", "c": "Elf:2", "seed": "7"}
PICTURES = [
    Picture("write", HARBOUR, heat),
    Picture("compare", HARBOUR | {"mode": "compare", "seed": "3", "len": "260"}, write),
    Picture("names", NAMES, keep_two),
    Picture("empty", {"model": "prose"}, lambda _: None, theme="dark"),
    Picture("phone", HARBOUR, heat_by_touch, PHONE, "dark"),
]


@contextmanager
def chromium() -> Iterator[Chrome]:
    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium"
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "hide-scrollbars", "force-color-profile=srgb"):
        options.add_argument(f"--{flag}")
    browser = Chrome(options=options, service=ChromeService(shutil.which("chromedriver") or "chromedriver"))
    try:
        yield browser
    finally:
        browser.quit()


def until(browser: Chrome, script: str) -> None:
    WebDriverWait(browser, PATIENCE_S, poll_frequency=0.05).until(lambda b: b.execute_script(script), script)


def take(browser: Chrome, base: str, picture: Picture, folder: Path) -> Path:
    """Write one picture; its path."""
    width, height, scale = picture.size
    shape = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": scale > 1}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", shape)
    scheme = [{"name": "prefers-color-scheme", "value": picture.theme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
    browser.get("about:blank")
    browser.execute_cdp_cmd("Storage.clearDataForOrigin", {"origin": base, "storageTypes": "all"})
    browser.get(f"{base}/#{urlencode(picture.asked)}")
    until(browser, "return document.body.dataset.ready === 'true' && document.fonts.status === 'loaded'")
    picture.act(browser)
    path = folder / f"playground-{picture.name}.png"
    browser.save_screenshot(str(path))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="http://127.0.0.1:8000")
    parser.add_argument("--out", type=Path, default=FOLDER)
    options = parser.parse_args()
    with chromium() as browser:
        for picture in PICTURES:
            print(take(browser, options.base, picture, options.out))


if __name__ == "__main__":
    main()
