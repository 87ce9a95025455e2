// What the page does beyond htmx: the list, the keys, the times that run. No decision is made here.
/* global htmx, pictures, sound */
"use strict";
(() => {
  const known = new Set();
  const queue = document.querySelector("#queue");
  const past = document.querySelector("#history");
  const detail = document.querySelector("#detail");
  const shown = () => (past.hidden ? queue : past);
  const cards = () => [...shown().querySelectorAll(".card")];
  const opened = () => detail.querySelector("article")?.dataset.alert;
  const ask = (path, target) => htmx.ajax("GET", path, { target, swap: "innerHTML" });

  function noticeNew() {
    let fresh = 0;
    for (const card of queue.querySelectorAll('.card[data-state="new"]')) {
      const escalated = card.classList.contains("escalated");
      const key = card.dataset.alert + (escalated ? " escalated" : "");
      if (!known.has(key)) fresh += escalated ? 3 : 1;
      known.add(key);
    }
    if (fresh) sound.beep(Math.min(fresh, 3));
    sound.escalated(queue.querySelector(".card.escalated") !== null);
    const unseen = queue.querySelectorAll('.card[data-state="new"]').length;
    document.title = document.title.replace(/^(\(\d+\) )?/, () => (unseen ? `(${unseen}) ` : ""));
  }

  function markOpened() {
    for (const card of document.querySelectorAll(".card")) {
      if (card.dataset.alert === opened()) card.setAttribute("aria-current", "true");
      else card.removeAttribute("aria-current");
    }
  }

  // -- times that run -----------------------------------------------------------------------------
  function words(seconds) {
    if (seconds < 60) return `${seconds} s`;
    const minutes = Math.floor(seconds / 60);
    return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  }
  const begun = new WeakMap();
  window.setInterval(() => {
    for (const span of document.querySelectorAll(".age")) {
      if (!begun.has(span)) begun.set(span, performance.now() - Number(span.dataset.age) * 1000);
      const text = words(Math.floor((performance.now() - begun.get(span)) / 1000));
      if (span.textContent !== text) span.textContent = text;
    }
  }, 500);

  // -- keys ---------------------------------------------------------------------------------------
  function choose(value) {
    const radio = document.querySelector(`#decision input[name="engage"][value="${value}"]`);
    if (!radio) return;
    radio.checked = true;
    document.querySelector("#reason").focus();
  }

  function step(by) {
    const all = cards();
    if (!all.length) return;
    document.body.classList.remove("open");
    const focus = all.indexOf(document.activeElement);
    const from = focus < 0 ? all.findIndex((card) => card.hasAttribute("aria-current")) : focus;
    all[from < 0 ? 0 : Math.max(0, Math.min(all.length - 1, from + by))].focus();
  }

  function toList() {
    document.body.classList.remove("open");
    (shown().querySelector(".card[aria-current]") ?? cards()[0])?.focus();
  }

  function showHistory(on) {
    past.hidden = !on;
    queue.hidden = on;
    document.querySelector("#show-history").setAttribute("aria-pressed", String(on));
    document.querySelector("#show-queue").setAttribute("aria-pressed", String(!on));
    document.body.classList.remove("open");
    if (on) ask("/history", "#history"); else past.replaceChildren();
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") { toList(); return; }
    if (event.target.matches("input:not([type=radio]), select, textarea")) return;
    const [right, down] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
    if ((right || down) && !event.target.matches("input, select, textarea") && pictures.pan(right, down)) { event.preventDefault(); return; }
    const act = {
      j: () => step(1), k: () => step(-1), e: () => choose("yes"), d: () => choose("no"),
      o: () => document.querySelector("#outcome input")?.focus(),
      h: () => showHistory(past.hidden), z: () => pictures.zoom(), f: () => pictures.flicker(),
      n: () => { showHistory(false); queue.querySelector('.card[data-state="new"]')?.click(); },
    }[event.key.toLowerCase()];
    if (act) { event.preventDefault(); act(); }
  });

  // -- what the server answers ----------------------------------------------------------------------
  let focused = null;  // the list is redrawn under the reader's hands: keep the focus on the same card
  document.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.target === queue) focused = queue.contains(document.activeElement) ? document.activeElement.dataset.alert : null;
  });
  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target === queue) {
      noticeNew();
      if (focused) queue.querySelector(`.card[data-alert="${focused}"]`)?.focus({ preventScroll: true });
    }
    if (event.detail.target === past) past.querySelector("#words")?.focus();
    if (event.detail.target === detail) {
      document.body.classList.add("open");
      detail.scrollTop = 0;
      pictures.begin();
      detail.focus({ preventScroll: true });
    }
    markOpened();
    if (event.detail.target === detail) document.querySelector(".card[aria-current]")?.scrollIntoView({ block: "nearest" });
  });

  // Asked for by the page and not by the card: the list may be redrawn while the answer is on its way.
  document.querySelector("nav").addEventListener("click", (event) => {
    const card = event.target.closest(".card");
    if (card) ask(`/alerts/${card.dataset.alert}`, "#detail");
  });
  detail.addEventListener("click", (event) => { if (event.target.closest(".back")) toList(); });
  document.querySelector("#show-queue").addEventListener("click", () => showHistory(false));
  document.querySelector("#show-history").addEventListener("click", () => showHistory(true));

  // The control room cannot be reached: say so, and ask until it answers. After a restart it answers with the sign-in.
  const unreachable = document.querySelector("#unreachable");
  let asking = 0;
  function lost() {
    unreachable.hidden = false;
    document.body.classList.add("lost");
    if (!asking) asking = window.setInterval(() => ask("/queue", "#queue"), 2000);
  }
  function found() {
    unreachable.hidden = true;
    document.body.classList.remove("lost");
    window.clearInterval(asking);
    asking = 0;
  }
  document.addEventListener("htmx:sseError", lost);
  document.addEventListener("htmx:sendError", lost);
  document.addEventListener("htmx:sseOpen", found);
  noticeNew();
})();
