// The theme: that of the system, or the one chosen here. Loaded before the page is drawn.
(function () {
  "use strict";
  const THEMES = ["auto", "light", "dark"];
  const root = document.documentElement;

  function stored() {
    try {
      return localStorage.getItem("theme");
    } catch {
      return null; // Storage is switched off.
    }
  }

  function apply(theme) {
    if (theme === "auto") root.removeAttribute("data-theme");
    else root.setAttribute("data-theme", theme);
    for (const label of document.querySelectorAll("[data-theme-name]")) {
      label.textContent = theme;
    }
    root.dispatchEvent(new CustomEvent("themechange"));
  }

  let theme = THEMES.includes(stored()) ? stored() : "auto";
  apply(theme);
  document.addEventListener("DOMContentLoaded", function () {
    for (const button of document.querySelectorAll("[data-theme-button]")) {
      button.hidden = false;
      button.addEventListener("click", function () {
        theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
        try {
          localStorage.setItem("theme", theme);
        } catch {
          // Then it lasts as long as this page.
        }
        apply(theme);
      });
    }
    apply(theme);
  });
})();
