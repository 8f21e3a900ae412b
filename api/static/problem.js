// Errors, said kindly: what happened in a line, the server's own words, and what can be done.

import { $, announce } from "./dom.js";
import { COUNT, SLIDERS } from "./settings.js";

const TITLES = {
  validation: "That setting does not work.",
  overloaded: "The gateway is busy.",
  unauthorized: "A key is needed.",
  forbidden: "Not allowed.",
  model_not_found: "That model is not served.",
  generation: "The text could not be written.",
  incomplete_generation: "The text broke off.",
  network: "No connection.",
};

let countdown = null;

/** `action` is `{ label, run }` for the one thing to do about it; null where there is none. */
export function showProblem(error, action) {
  hideProblem();
  $("problem-title").textContent = TITLES[error.kind] ?? "Something went wrong.";
  $("problem-text").textContent = sentence(error.message);
  $("problem").hidden = false;
  const control = controlFor(error.field);
  if (control) {
    control.setAttribute("aria-invalid", "true");
    control.setAttribute("aria-errormessage", "problem-text");
    const panel = control.closest("details");
    if (panel) panel.open = true;
  }
  if (action) offer(action, error.retryAfter ?? 0);
}

export function hideProblem() {
  clearInterval(countdown);
  $("problem").hidden = true;
  $("problem-action").hidden = true;
  document.querySelectorAll('[aria-errormessage="problem-text"]').forEach((control) => {
    control.removeAttribute("aria-invalid");
    control.removeAttribute("aria-errormessage");
  });
}

function controlFor(field) {
  const found = [...document.querySelectorAll("[data-field]")].filter((one) => one.dataset.field === field);
  return found.find((one) => one.closest("[hidden]") === null) ?? null;
}

function offer({ label, run }, seconds) {
  const pressed = $("problem-action");
  let left = Math.min(60, seconds);
  const show = () => {
    pressed.textContent = left > 0 ? `${label} in ${left} s` : label;
    pressed.disabled = left > 0;
  };
  show();
  pressed.hidden = false;
  pressed.onclick = () => (hideProblem(), run());
  if (left > 0) {
    countdown = setInterval(() => {
      left -= 1;
      show();
      if (left <= 0) {
        clearInterval(countdown);
        announce("You can try again now.");
      }
    }, 1000);
  }
}

const NAMES = new Map([...SLIDERS, COUNT].map(({ name, label }) => [name, label]));
NAMES.set("inputs", "The beginning").set("seed_word", "The seed word").set("seed_word.value", "The seed word");

// The server names fields as a request spells them; here a person reads.
function sentence(message) {
  const text = message.replace(/^(?:parameters\.)?([a-z_.]+)/, (whole, field) => NAMES.get(field) ?? field);
  return text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
}
