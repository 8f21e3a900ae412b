"""The playground in a real Chromium, against a real gateway with the fake worker behind it."""

from __future__ import annotations

import json
import subprocess
import sys

import httpx
import pytest
from selenium.webdriver import Keys

from api.keys import make_key

pytestmark = pytest.mark.browser


def jobs(worker):
    return [job for post in worker.posts for job in post]


def generated(browser):
    return browser.text("#write-text .generated")


def test_the_root_is_a_page_for_browsers_and_json_for_everyone_else(base):
    page = httpx.get(base, headers={"accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert page.headers["content-type"].startswith("text/html")
    assert httpx.get(base, headers={"accept": "*/*"}).json()["generate"] == "/generate"


def test_the_card_says_what_the_gateway_says(browser, base):
    browser.open(base)
    card = browser.text("#card")
    for said in ("ready", "prose", "123", "1.30 nats", "200 new tokens", "the CPU"):
        assert said in card
    assert [option.text for option in browser.all("#model option")] == ["prose", "names"]
    assert [chip.text for chip in browser.all("#categories .chip")] == ["elf", "bear"]


def test_text_is_on_the_page_before_it_is_complete_and_then_is_the_workers(browser, base, worker, expected):
    worker.step_s = 0.05
    browser.open(base, "#model=prose&prompt=abc&seed=5&len=40")
    whole = expected("abc", 5, 40)
    browser.press(Keys.CONTROL, Keys.ENTER)
    partial = browser.until(lambda: generated(browser), "the first letters")
    assert whole.startswith(partial)
    assert len(partial) < len(whole)
    browser.idle()
    assert generated(browser) == whole
    assert browser.text("#write-text .opening") == "abc"
    assert "40 tokens" in browser.text("#write-text .facts")
    assert "Seed 5" in browser.text("#write-text .facts")


def test_escape_stops_the_worker_and_keeps_what_was_written(browser, base, worker, expected):
    worker.step_s = 0.05
    browser.open(base, "#model=prose&prompt=abc&seed=5&len=190")
    browser.press(Keys.CONTROL, Keys.ENTER)
    browser.until(lambda: generated(browser), "the first letters")
    assert browser.find("#stop").is_displayed()
    browser.press(Keys.ESCAPE)
    browser.idle()
    written = generated(browser)
    assert written
    assert expected("abc", 5, 190).startswith(written)
    assert written != expected("abc", 5, 190)
    assert not browser.find("#stop").is_displayed()
    assert browser.find("#problem").is_displayed() is False
    browser.until(lambda: worker.closed or worker.cancelled, "the worker to hear of it")


def test_every_token_has_the_shade_of_its_probability(browser, base):
    browser.open(base, "#model=prose&prompt=abc&seed=5&len=60")
    browser.generate()
    browser.click("#views label:nth-of-type(2)")
    # The worker gives the token number n the log-probability -n.
    shades = browser.run(
        "return [...document.querySelectorAll('#write-text .token')].map(t => [t.textContent, t.className])"
    )
    assert len(shades) == 60
    assert {kind for text, kind in shades if text == "a"} == {"token shade-1"}
    assert {kind for text, kind in shades if text == "b"} == {"token shade-2"}
    assert {kind for text, kind in shades if text == "g"} == {"token shade-5"}
    colours = (
        "return ['a', 'b', 'g'].map(letter => getComputedStyle([...document.querySelectorAll("
        "'#write-text .token')].find(t => t.textContent === letter)).backgroundColor)"
    )
    # The shades fade in.
    browser.until(lambda: len(set(browser.run(colours))) == 3, "three colours")


def test_hovering_over_a_token_shows_five_alternatives_with_their_shares(browser, base):
    browser.open(base, "#model=prose&prompt=abc&seed=5&len=60")
    browser.generate()
    browser.click("#views label:nth-of-type(2)")
    token = next(t for t in browser.all("#write-text .token") if t.text == "b")
    browser.hover(token)
    assert browser.find("#inspector").is_displayed()
    rows = [row.text.replace("\n", " ") for row in browser.all("#inspector li")]
    assert rows == ["a 37 %", "b (chosen) 14 %", "c 5.0 %", "d 1.8 %", "e 0.7 %"]
    assert browser.text("#inspector .chosen .alternative").startswith("b")
    assert "-2.00 nats" in browser.text("#inspector .logprob")


def test_arrow_keys_walk_through_the_tokens_and_tab_stops_once(browser, base):
    browser.open(base, "#model=prose&prompt=abc&seed=5&len=20")
    browser.generate()
    browser.click("#views label:nth-of-type(2)")
    assert len(browser.all("#write-text .token[tabindex='0']")) == 1
    browser.press(Keys.TAB)
    focused = "return document.activeElement.dataset.index"
    assert browser.run(focused) == "0"
    assert browser.find("#inspector").is_displayed()
    browser.press(Keys.ARROW_RIGHT)
    browser.press(Keys.ARROW_RIGHT)
    browser.press(Keys.ARROW_LEFT)
    assert browser.run(focused) == "1"
    browser.press(Keys.END)
    assert browser.run(focused) == "19"
    browser.press(Keys.ESCAPE)
    assert not browser.find("#inspector").is_displayed()


def test_the_longest_passage_of_the_training_text_is_marked(browser, base, worker, expected):
    found = {
        "verdict": "copy",
        "longest": 6,
        "ratio": 0.5,
        "start": 4,
        "end": 10,
        "source": {"title": "Anna"},
    }
    worker.copies = lambda text: found
    browser.open(base, "#model=prose&prompt=abc&seed=8&len=20")
    browser.generate()
    assert jobs(worker)[-1]["novelty"] == {"mode": "mark"}
    browser.click("#views label:nth-of-type(3)")
    marked = browser.run(
        "return [...document.querySelectorAll('#write-text .shared')].map(t => t.textContent).join('')"
    )
    # "io" is one token and is marked as a whole, so the mark may begin or end a letter outside the passage.
    assert expected("abc", 8, 20)[4:10] in marked
    assert len(marked) <= 8
    line = browser.text("#write-text .novelty")
    assert "Partly copied" in line
    assert "6 characters" in line
    assert "Anna" in line


def test_a_model_that_cannot_tell_how_new_its_text_is_says_so(browser, base):
    browser.open(base, "#model=prose&prompt=abc&seed=5&len=10")
    browser.generate()
    assert browser.text("#write-text .novelty") == "This model carries no index of its training text."


def test_an_answer_that_says_nothing_of_novelty_gets_no_line_for_it(browser, base, worker):
    plain = worker._lines

    async def lines(*arguments):
        async for line in plain(*arguments):
            if b'"novelty"' in line:
                event = json.loads(line)
                del event["novelty"]
                line = json.dumps(event).encode() + b"\n"
            yield line

    worker._lines = lines
    browser.open(base, "#model=prose&prompt=abc&seed=5&len=10")
    browser.generate()
    assert browser.all("#write-text .facts")
    assert not browser.all("#write-text .novelty")


def test_a_list_has_no_text_of_the_training_set_and_marks_what_is_partly_copied(
    browser, base, worker, expected
):
    known, near = (expected("lantern", seed, 6) for seed in (7, 8))
    worker.copies = lambda text: {
        "verdict": "copy" if text in (known, near) else "novel",
        "exact_copy": text == known,
        "longest": 5,
        "start": 0,
        "end": 5,
    }
    browser.open(base, "#model=names&mode=list&len=6&seed=7")
    browser.generate()
    entries = browser.all("#lists .entry")
    assert len(entries) == 12
    assert "lantern" + known not in browser.text("#lists")
    marked = [entry for entry in entries if "partly copied" in entry.text]
    assert [entry.find_element("css selector", ".entry-text").text for entry in marked] == ["lantern" + near]


def test_compare_writes_three_columns_from_one_seed(browser, base, worker, expected):
    browser.open(base, "#model=prose&mode=compare&prompt=abc&len=30")
    browser.generate()
    columns = browser.all("#columns .column")
    assert [column.find_element("css selector", ".degree").text for column in columns] == [
        "0.5",
        "0.8",
        "1.1",
    ]
    sent = jobs(worker)
    assert sorted(job["temperature"] for job in sent) == [0.5, 0.8, 1.1]
    (seed,) = {job["seed"] for job in sent}
    texts = browser.run(
        "return [...document.querySelectorAll('#columns .generated')].map(t => t.textContent)"
    )
    assert texts == [expected("abc", seed, 30)] * 3
    boxes = [column.rect for column in columns]
    assert len({box["y"] for box in boxes}) == 1
    assert boxes[0]["x"] < boxes[1]["x"] < boxes[2]["x"]


def test_names_come_as_a_list_and_bring_more_of_their_category(browser, base, worker):
    browser.open(base, "#model=names&mode=list&c=elf&len=8")
    browser.generate()
    entries = browser.all("#lists .entry")
    assert len(entries) == 12
    names = [browser.run("return arguments[0].querySelector('.entry-text').textContent", e) for e in entries]
    assert len(set(names)) == 12
    before = {job["seed"] for job in jobs(worker)}
    browser.run("document.querySelector('#lists .more').click()")
    browser.idle()
    groups = browser.all("#lists .group")
    assert len(groups) == 2
    assert browser.text("#lists .group h2") == f"More like {names[0]}, elf"
    assert len(groups[0].find_elements("css selector", ".entry")) == 6
    later = [job for job in jobs(worker) if job["seed"] not in before]
    assert later
    assert all(job["category"] == "elf" for job in later)


def test_what_is_kept_is_still_there_after_a_reload(browser, base):
    browser.open(base, "#model=names&mode=list&len=8")
    browser.generate()
    name = browser.text("#lists .entry .entry-text")
    browser.click("#lists .entry .star")
    assert browser.find("#lists .entry .star").get_attribute("aria-pressed") == "true"
    browser.driver.refresh()
    browser.until(lambda: browser.all("#kept li"), "what was kept")
    assert browser.text("#kept .kept-text") == name
    assert len(browser.all("#history li")) == 1
    browser.click("#history .note")
    browser.until(lambda: len(browser.all("#lists .entry")) == 12, "the list of the history")
    assert browser.text("#lists .entry .entry-text") == name
    assert browser.find("#lists .entry .star").get_attribute("aria-pressed") == "true"


def test_weights_of_several_categories_are_sent_as_set(browser, base, worker):
    browser.open(base, "#model=prose&prompt=abc&len=4")
    for chip in ("elf", "bear"):
        browser.run(
            "[...document.querySelectorAll('.chip')].find(c => c.textContent === arguments[0]).click()", chip
        )
    slider = browser.find("#weights .weight input")
    for _ in range(5):
        slider.send_keys(Keys.ARROW_RIGHT)
    assert browser.text("#weights .weight output") == "60 %"
    browser.generate()
    assert jobs(worker)[-1]["category"] == {"elf": 1.5, "bear": 1}


def test_only_what_was_changed_is_sent(browser, base, worker):
    browser.open(base, "#model=prose&prompt=abc")
    browser.generate()
    untouched = {"temperature", "top_k", "top_p", "min_p", "repetition_penalty", "max_new_tokens"}
    assert not untouched & set(jobs(worker)[-1])
    browser.find("#slider-temperature").send_keys(Keys.ARROW_RIGHT)
    browser.generate()
    assert jobs(worker)[-1]["temperature"] == 0.85
    assert not (untouched - {"temperature"}) & set(jobs(worker)[-1])


def test_a_seed_word_strategy_is_sent_when_the_page_is_empty(browser, base, worker):
    browser.open(base, "#model=prose&len=4&word=letter:w")
    browser.generate()
    assert jobs(worker)[-1]["seed_word"] == {"strategy": "letter", "value": "w"}
    assert browser.text("#write-text .opening") == "lantern"


def test_a_kept_seed_writes_the_same_text_and_a_free_one_another(browser, base):
    browser.open(base, "#model=prose&prompt=abc&len=30")
    browser.generate()
    first = generated(browser)
    browser.click("#lock")
    browser.generate()
    assert generated(browser) == first
    browser.click("#lock")
    browser.generate()
    assert generated(browser) != first


def test_the_copied_link_leads_to_the_same_text(browser, base):
    browser.cdp("Browser.grantPermissions", permissions=["clipboardReadWrite"], origin=base)
    browser.open(base, "#model=prose&prompt=abc&len=30&t=0.6")
    browser.generate()
    first = generated(browser)
    press(browser, "Copy link")
    link = browser.clipboard()
    browser.open(base, link.removeprefix(base + "/"))
    assert browser.find("#slider-temperature").get_attribute("value") == "0.6"
    browser.generate()
    assert generated(browser) == first


def test_the_copied_curl_command_gives_the_same_text(browser, base):
    browser.cdp("Browser.grantPermissions", permissions=["clipboardReadWrite"], origin=base)
    browser.open(base, "#model=prose&len=30&c=elf")
    browser.type("#prompt", 'it\'s "a" $HOME `b`')
    browser.generate()
    press(browser, "Copy as curl")
    command = browser.clipboard()
    done = subprocess.run(["bash", "-c", command], capture_output=True, timeout=20, check=True)
    assert json.loads(done.stdout)["generated_text"] == generated(browser)


@pytest.mark.parametrize("mode", ["write", "list"])
def test_the_copied_python_gives_the_same_texts(browser, base, mode):
    browser.cdp("Browser.grantPermissions", permissions=["clipboardReadWrite"], origin=base)
    browser.open(base, f"#model=names&mode={mode}&len=9&c=elf&c=bear:2&rep=1.2")
    browser.type("#prompt", 'it\'s "a" \\ {b}')
    browser.generate()
    shown = (
        [entry.get_property("textContent") for entry in browser.all("#lists .entry-text")]
        if mode == "list"
        else [generated(browser)]
    )
    press(browser, "Copy as Python")
    program = browser.clipboard()
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, timeout=60, check=True, encoding="utf-8"
    )
    assert [line.strip() for line in done.stdout.splitlines()] == [text.strip() for text in shown]


def test_a_key_in_use_is_named_in_what_is_copied_and_never_shown(browser, base):
    browser.cdp("Browser.grantPermissions", permissions=["clipboardReadWrite"], origin=base)
    browser.open(base, "#model=prose&prompt=abc&len=5")
    browser.run("sessionStorage.setItem('inkwell.key', JSON.stringify('iw-very-secret'))")
    browser.generate()
    for label in ("Copy as curl", "Copy as Python"):
        browser.run("document.getElementById('status').textContent = ''")
        press(browser, label)
        assert "INKWELL_API_KEY" in browser.clipboard()
        assert "iw-very-secret" not in browser.clipboard()
    browser.run("sessionStorage.clear()")


def test_a_new_text_takes_the_place_of_one_that_is_still_being_written(browser, base, worker, expected):
    worker.step_s = 0.05
    browser.open(base, "#model=prose&prompt=abc&len=180&seed=1")
    browser.press(Keys.CONTROL, Keys.ENTER)
    browser.until(lambda: generated(browser), "the first letters")
    browser.type(".slider[data-name='max_new_tokens'] .exact", "6")
    browser.generate()
    assert generated(browser) == expected("abc", 1, 6)
    assert len(browser.all("#write-text .text")) == 1
    assert len(browser.all("#write-text .foot")) == 1


def press(browser, label):
    browser.run(
        "[...document.querySelectorAll('#results button')]"
        ".find(b => b.checkVisibility() && b.textContent === arguments[0]).click()",
        label,
    )
    browser.until(lambda: "Copied." in browser.text("#status"), "the copy")


def test_a_setting_that_is_refused_is_named_and_marked(browser, base):
    browser.open(base, "#model=prose&prompt=abc&len=5000")
    browser.generate()
    assert browser.find("#problem").is_displayed()
    assert browser.find("#problem").get_attribute("role") == "alert"
    assert "at most 200 for model prose; got 5000" in browser.text("#problem-text")
    wrong = browser.all("[aria-invalid='true']")
    assert [control.get_attribute("aria-label") for control in wrong] == ["Length, exactly"]
    browser.type(".slider[data-name='max_new_tokens'] .exact", "10")
    browser.generate()
    assert not browser.find("#problem").is_displayed()
    assert not browser.all("[aria-invalid='true']")
    assert len(browser.all("#write-text .token")) == 10


def test_a_failed_text_can_be_tried_again_with_other_settings(browser, base):
    browser.open(base, "#model=prose&prompt=explode&len=5")
    browser.generate()
    assert "This job failed." in browser.text("#problem-text")
    browser.type("#prompt", "abc")
    browser.click("#problem-action")
    browser.idle()
    assert not browser.find("#problem").is_displayed()
    assert len(browser.all("#write-text .token")) == 5


def test_a_busy_gateway_says_when_to_come_back(browser, serve):
    base = serve(requests_per_second_per_key=0.01)
    browser.open(base, "#model=prose&prompt=abc&len=5")
    browser.until(lambda: (browser.generate(), browser.find("#problem").is_displayed())[1], "the limit")
    assert browser.text("#problem-title") == "The gateway is busy."
    assert browser.text("#problem-action").startswith("Try again in ")
    assert not browser.find("#problem-action").is_enabled()


def test_a_gateway_that_wants_a_key_is_given_one_for_this_tab_only(browser, serve, tmp_path):
    token, line = make_key("writer")
    keys = tmp_path / "keys"
    keys.write_text(line)
    base = serve(key_file=keys)
    browser.base = base
    browser.driver.get("about:blank")
    browser.collect()
    browser.complaints, browser.sent = [], {}
    browser.driver.get(f"{base}/#model=prose&prompt=abc&len=5")
    browser.until(lambda: browser.run("return document.getElementById('key-dialog').open"), "the question")
    browser.type("#key", token)
    browser.press(Keys.ENTER)
    browser.until(lambda: browser.run("return document.body.dataset.ready"), "the models")
    browser.generate()
    assert len(browser.all("#write-text .token")) == 5
    assert token in browser.run("return sessionStorage.getItem('inkwell.key')")
    assert token not in browser.run("return JSON.stringify(localStorage)")
    assert token not in browser.run("return location.href")
    browser.run("sessionStorage.clear()")


def test_the_word_that_the_model_begins_with_is_there_before_the_text_is(browser, base, worker, expected):
    worker.step_s = 0.05
    browser.open(base, "#model=prose&seed=5&len=60")
    browser.press(Keys.CONTROL, Keys.ENTER)
    browser.until(lambda: browser.text("#write-text .opening") == "lantern", "the word")
    assert len(generated(browser)) < len(expected("lantern", 5, 60))
    browser.idle()
    assert generated(browser) == expected("lantern", 5, 60), "and it does not stand in the text again"


def test_a_word_that_the_model_knows_can_be_taken_for_a_beginning(browser, base):
    browser.open(base, "#model=prose&len=5&seed=2")
    assert [word.text for word in browser.all("#familiar-words .word")] == ["lantern", "harbour", "moor"]
    assert not browser.find("#familiar-others").is_displayed()
    browser.click("#familiar-words .word:nth-of-type(2)")
    assert browser.run("return document.getElementById('prompt').value") == "harbour"
    assert not browser.find("#familiar").is_displayed()
    browser.generate()
    assert browser.text("#write-text .opening") == "harbour"
    browser.type("#prompt", Keys.BACKSPACE)
    assert browser.find("#familiar").is_displayed()


@pytest.mark.parametrize("mode", ["write", "compare", "list"])
def test_letters_that_the_model_does_not_know_are_named(browser, base, mode):
    browser.open(base, f"#model=prose&mode={mode}&prompt=abcЖł&len=5&seed=2")
    browser.generate()
    line = browser.text("#results .dropped")
    assert line == "This model does not know Ж ł and left them out of the beginning."


def test_a_refused_setting_is_called_by_the_name_it_has_on_the_page(browser, base):
    browser.open(base, "#model=prose&prompt=abc&len=5000")
    browser.generate()
    assert browser.text("#problem-text").startswith("Length must be at most 200")
