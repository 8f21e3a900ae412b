// The key of a gateway that asks for one; kept for this tab.

import { $ } from "./dom.js";
import { apiKey, useApiKey } from "./store.js";

const dialog = $("key-dialog");
let after = null;

/** Ask for a key; `then` runs once one was given. */
export function askForKey(then, text) {
  after = then;
  $("key-text").textContent = text ?? "A key stays in this tab and is forgotten when the tab is closed.";
  $("key").value = apiKey();
  if (!dialog.open) dialog.showModal();
  $("key").focus();
}

function use() {
  useApiKey($("key").value.trim());
  dialog.close();
  showKey();
  after?.();
}

export function showKey() {
  $("open-key").textContent = apiKey() ? "API key set" : "API key";
}

$("key-use").addEventListener("click", use);
$("key").addEventListener("keydown", (event) => {
  if (event.key === "Enter") use();
});
$("key-forget").addEventListener("click", () => {
  useApiKey("");
  $("key").value = "";
  showKey();
});
$("key-cancel").addEventListener("click", () => dialog.close());
