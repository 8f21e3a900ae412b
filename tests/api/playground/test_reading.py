"""That everybody can read and work the playground: contrast, small screens, names of controls, still pages.
And that it needs nothing but the gateway, under a policy that allows nothing else."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from selenium.webdriver import Keys

import api

pytestmark = pytest.mark.browser

STATIC = Path(api.__file__).parent / "static"

# The contrast of every visible text with what is painted behind it, by WCAG 2's formula.
CONTRASTS = """
const channel = (v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
const parse = (c) => { const [r, g, b, a = 1] = c.match(/[0-9.]+/g).map(Number); return { r, g, b, a }; };
const light = ({ r, g, b }) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const over = (top, under) => ({
  r: top.r * top.a + under.r * (1 - top.a), g: top.g * top.a + under.g * (1 - top.a),
  b: top.b * top.a + under.b * (1 - top.a), a: 1 });
const behind = (element) => {
  const layers = [];
  for (let at = element; at; at = at.parentElement) layers.push(parse(getComputedStyle(at).backgroundColor));
  return layers.reverse().reduce((under, top) => over(top, under), { r: 255, g: 255, b: 255, a: 1 });
};
const found = [];
for (const element of document.body.querySelectorAll('*')) {
  const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
  const style = getComputedStyle(element);
  const box = element.getBoundingClientRect();
  if (!own || !element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
  if (box.width < 2 || element.closest('[aria-hidden=true], :disabled') || style.clipPath !== 'none') continue;
  const back = behind(element);
  const front = over(parse(style.color), back);
  const [a, b] = [light(front), light(back)].sort((x, y) => y - x);
  const what = element.tagName + '.' + element.className;
  found.push([(a + 0.05) / (b + 0.05), what, element.textContent.slice(0, 30)]);
}
return found;
"""

NAMELESS = """
const named = (e) => e.labels?.length || e.getAttribute('aria-label') || e.getAttribute('aria-labelledby')
  || e.textContent.trim();
return [...document.querySelectorAll('button, input, select, textarea, a[href]')]
  .filter((e) => e.checkVisibility() && !named(e)).map((e) => e.outerHTML.slice(0, 120));
"""


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("mode", ["write", "compare", "list"])
def test_every_text_has_contrast_enough(browser, base, theme, mode):
    browser.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
    browser.open(base, f"#model=prose&mode={mode}&len=60&c=elf&c=bear&seed=3")
    browser.generate()
    if mode == "write":
        browser.click("#views label:nth-of-type(2)")
        browser.hover(browser.find("#write-text .token.shade-5"))
    found = browser.run(CONTRASTS)
    assert len(found) > 60
    assert [entry for entry in found if entry[0] < 4.5] == []
    ground = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert (int(ground.split("(")[1].split(",")[0]) > 128) is (theme == "light")


def test_the_theme_button_overrules_the_system_and_is_remembered(browser, base):
    browser.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    browser.open(base)
    ground = "return getComputedStyle(document.body).backgroundColor"
    dark = browser.run(ground)
    browser.click("#theme")
    light = browser.run(ground)
    assert browser.text("#theme") == "Light"
    assert light != dark
    browser.driver.refresh()
    assert browser.run(ground) == light


@pytest.mark.parametrize("mode", ["write", "compare", "list"])
def test_nothing_is_wider_than_a_phone(browser, base, mode):
    browser.cdp("Emulation.setDeviceMetricsOverride", width=375, height=812, deviceScaleFactor=2, mobile=True)
    browser.open(base, f"#model=prose&mode={mode}&prompt=abc&len=150")
    browser.generate()
    browser.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.run("return document.documentElement.scrollWidth") <= 375
    size = browser.run(
        "return parseFloat(getComputedStyle(document.querySelector('.text, .entry-text')).fontSize)"
    )
    assert size >= 16
    small = browser.run(
        "return [...document.querySelectorAll('.actions button, .modes button, .star, .chip')]"
        ".filter(b => b.checkVisibility() && b.getBoundingClientRect().height < 40).map(b => b.outerHTML)"
    )
    assert small == []


@pytest.mark.parametrize("mode", ["write", "compare", "list"])
def test_every_control_has_a_name(browser, base, mode):
    browser.open(base, f"#model=prose&mode={mode}&len=8&c=elf&c=bear")
    browser.generate()
    assert browser.run(NAMELESS) == []


def test_the_tabs_are_worked_with_the_arrow_keys(browser, base):
    browser.open(base, "#model=prose")
    browser.run("document.getElementById('tab-write').focus()")
    browser.press(Keys.ARROW_RIGHT)
    assert browser.run("return document.activeElement.id") == "tab-compare"
    assert browser.find("#view-compare") is not None
    assert browser.run("return document.body.dataset.mode") == "compare"
    browser.press(Keys.ARROW_LEFT)
    browser.press(Keys.ARROW_LEFT)
    assert browser.run("return document.activeElement.id") == "tab-list"


def test_what_has_the_focus_is_seen(browser, base):
    browser.open(base, "#model=prose")
    seen = set()
    for _ in range(25):
        browser.press(Keys.TAB)
        style = browser.run(
            "const e = document.activeElement, s = getComputedStyle(e);"
            "return [e.id || e.className, s.outlineStyle, s.borderBottomColor]"
        )
        if style[0] == "prompt":
            assert style[2] == browser.run(
                "return getComputedStyle(document.querySelector('.primary')).backgroundColor"
            )
        elif style[0]:
            assert style[1] != "none", style
        seen.add(style[0])
    assert {"tab-write", "model", "prompt", "go", "seed", "slider-temperature"} <= seen


def test_nothing_moves_for_those_who_asked_for_rest(browser, base, worker):
    worker.step_s = 0.05
    cursor = "return getComputedStyle(document.querySelector('.writing'), '::after').animationName"
    for preference, name in (("no-preference", "blink"), ("reduce", "none")):
        browser.cdp(
            "Emulation.setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": preference}]
        )
        browser.open(base, "#model=prose&prompt=abc&len=100")
        browser.press(Keys.CONTROL, Keys.ENTER)
        browser.until(lambda: browser.all(".writing .token"), "the first letters")
        assert browser.run(cursor) == name
        browser.press(Keys.ESCAPE)
        browser.idle()


def test_the_policy_lets_no_foreign_or_inline_script_run(browser, base):
    browser.open(base, "#model=prose")
    browser.run(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = true'}));"
        "document.body.append(Object.assign(document.createElement('script'), {src: 'http://127.0.0.2:9/x.js'}));"
        "document.body.setAttribute('style', 'color: rgb(1, 2, 3)');"
    )
    assert browser.run("return window.ran ?? null") is None
    assert browser.run("return getComputedStyle(document.body).color") != "rgb(1, 2, 3)"
    browser.until(lambda: (browser.collect(), len(browser.complaints) >= 3)[1], "the browser to complain")
    assert all("Content Security Policy" in complaint for complaint in browser.complaints)
    assert browser.strangers == []
    browser.complaints.clear()


def test_every_file_of_the_page_comes_from_the_gateway_and_is_fetched_once(browser, base):
    browser.open(base)
    browser.collect()
    fetched = [url.removeprefix(base) for url in browser.requests if "/static/" in url]
    assert len(fetched) == len(set(fetched))
    on_disk = {f"/static/{path.name}" for path in STATIC.iterdir()}
    assert set(fetched) <= on_disk
    scripts = {name for name in on_disk if name.endswith(".js")}
    assert scripts <= set(fetched), "a module that nothing imports"
    for path in scripts:
        kind = httpx.get(base + path).headers["content-type"]
        assert kind.split(";")[0] in ("text/javascript", "application/javascript")
