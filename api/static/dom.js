// Small helpers for the page's elements.

export const $ = (id) => document.getElementById(id);

/** `make("button", { type: "button", class: "star", on: { click } }, "Keep")` */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") for (const [event, handler] of Object.entries(value)) element.addEventListener(event, handler);
    else if (name === "dataset") Object.assign(element.dataset, value);
    else if (name === "class") element.className = value;
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export const button = (label, onClick, attributes = {}) =>
  make("button", { type: "button", class: "quiet", ...attributes, on: { click: onClick } }, label);

export function announce(text) {
  $("status").textContent = text;
}

/** Copies, and says so on the button that was pressed. */
export async function copy(text, pressed) {
  const before = pressed.textContent;
  const done = await copied(text);
  pressed.textContent = done ? "Copied" : "Not copied";
  announce(done ? "Copied." : "Your browser did not allow copying.");
  setTimeout(() => (pressed.textContent = before), 1400);
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copiedByHand(text); // plain http on another host has no clipboard object
  }
}

function copiedByHand(text) {
  const area = make("textarea", { class: "unseen", "aria-hidden": "true" });
  const focused = document.activeElement;
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  focused?.focus();
  return done;
}

export function saveAs(name, text) {
  const url = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  make("a", { href: url, download: name }).click();
  URL.revokeObjectURL(url);
}

export const number = (value, digits = 0) =>
  Number(value).toLocaleString("en", { maximumFractionDigits: digits, minimumFractionDigits: digits });

export const large = (value) =>
  Number(value).toLocaleString("en", { notation: "compact", compactDisplay: "long", maximumSignificantDigits: 3 });
