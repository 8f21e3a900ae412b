// Swagger UI over this gateway's own description. It asks nobody else: no validator, no fonts, no network of its makers.

// The theme that was chosen in the playground, or the system's.
const system = matchMedia("(prefers-color-scheme: dark)");
function dress() {
  let chosen = null;
  try {
    chosen = localStorage.getItem("inkwell.theme");
  } catch {
    // Storage is barred in some private windows; the system's theme then applies.
  }
  document.documentElement.classList.toggle("dark-mode", chosen ? chosen === "dark" : system.matches);
}
dress();
system.addEventListener("change", dress);

window.addEventListener("DOMContentLoaded", () => {
  window.SwaggerUIBundle({
    url: new URL("openapi.json", document.baseURI).href,
    dom_id: "#api",
    validatorUrl: null,
    deepLinking: true,
    defaultModelsExpandDepth: 0,
    displayRequestDuration: true,
    tryItOutEnabled: true,
  });
});
