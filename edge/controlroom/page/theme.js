// Dark until somebody chooses: light, or as the machine asks for it. In the head of the page, so that nothing flashes.
"use strict";
(() => {
  const KEY = "lfr-theme";
  const CHOICES = { dark: "Dark", light: "Light", machine: "As this machine" };
  const wish = window.matchMedia("(prefers-color-scheme: light)");
  const chosen = () => (Object.hasOwn(CHOICES, window.localStorage.getItem(KEY) ?? "") ? window.localStorage.getItem(KEY) : "dark");

  function show() {
    const choice = chosen();
    const light = choice === "light" || (choice === "machine" && wish.matches);
    document.documentElement.dataset.theme = light ? "light" : "dark";
    const button = document.querySelector("#theme");
    if (button) button.textContent = CHOICES[choice];
  }

  function next() {
    const names = Object.keys(CHOICES);
    window.localStorage.setItem(KEY, names[(names.indexOf(chosen()) + 1) % names.length]);
    show();
  }

  wish.addEventListener("change", show);
  document.addEventListener("DOMContentLoaded", () => {
    show();
    document.querySelector("#theme")?.addEventListener("click", next);
  });
  show();
})();
