// Night, daylight or high contrast, as this screen was last used. Loaded before anything is drawn.
"use strict";
const theme = (() => {
  const KEY = "lfr-theme";
  const ALL = ["night", "day", "contrast"];
  const show = (name) => { document.documentElement.dataset.theme = ALL.includes(name) ? name : ALL[0]; };
  show(window.localStorage.getItem(KEY));
  function next() {
    const name = ALL[(ALL.indexOf(document.documentElement.dataset.theme) + 1) % ALL.length];
    window.localStorage.setItem(KEY, name);
    show(name);
  }
  return { next };
})();
