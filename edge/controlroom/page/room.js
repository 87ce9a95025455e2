// What the page does beyond htmx: the order of the pictures, the minimum look, keys, sound. No decision is made here.
/* global htmx */
"use strict";
(() => {
  const known = new Set();
  let audio = null;
  let timer = 0;
  const cards = () => [...document.querySelectorAll(".card")];
  const opened = () => document.querySelector("#detail article")?.dataset.alert;

  function beep(times) {
    if (!audio) return;
    for (let n = 0; n < times; n += 1) {
      const tone = audio.createOscillator();
      const gain = audio.createGain();
      tone.frequency.value = 880;
      gain.gain.value = 0.2;
      tone.connect(gain).connect(audio.destination);
      tone.start(audio.currentTime + n * 0.3);
      tone.stop(audio.currentTime + n * 0.3 + 0.15);
    }
  }

  function noticeNew() {
    let fresh = 0;
    for (const card of cards()) {
      const key = card.dataset.alert + (card.classList.contains("escalated") ? " escalated" : "");
      if (!known.has(key) && card.dataset.state === "new") fresh += card.classList.contains("escalated") ? 3 : 1;
      known.add(key);
      if (card.dataset.alert === opened()) card.setAttribute("aria-current", "true");
    }
    if (fresh) beep(Math.min(fresh, 3));
    document.title = document.title.replace(/^(\(\d+\) )?/, () => {
      const unseen = document.querySelectorAll('.card[data-state="new"]').length;
      return unseen ? `(${unseen}) ` : "";
    });
  }

  function beginLook() {
    const article = document.querySelector("#detail article");
    const probe = document.querySelector("#probe");
    const reference = document.querySelector("#reference");
    window.clearInterval(timer);
    if (!article || !probe || !reference) return;
    const look = () => {  // the server counts from the moment at which it handed out the second picture
      const until = performance.now() + Number(article.dataset.lookMs);
      const tick = () => {
        const left = Math.ceil((until - performance.now()) / 1000);
        const button = article.querySelector(".waits");
        const words = article.querySelector("#countdown");
        if (!button) return window.clearInterval(timer);
        if (left > 0) { words.textContent = `Look at both pictures for ${left} s`; return; }
        window.clearInterval(timer);
        button.disabled = false;
        words.textContent = "";
      };
      timer = window.setInterval(tick, 200);
      tick();
    };
    const show = () => {
      reference.addEventListener("load", look, { once: true });
      reference.src = reference.dataset.src;
    };
    if (probe.complete) show(); else probe.addEventListener("load", show, { once: true });
  }

  function choose(value) {
    const radio = document.querySelector(`#decision input[name="engage"][value="${value}"]`);
    if (!radio) return;
    radio.checked = true;
    document.querySelector("#reason").focus();
  }

  function step(by) {
    const all = cards();
    if (!all.length) return;
    const at = all.indexOf(document.activeElement);
    all[at < 0 ? 0 : Math.max(0, Math.min(all.length - 1, at + by))].focus();
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("input:not([type=radio]), select, textarea")) return;
    const act = {
      j: () => step(1), k: () => step(-1), e: () => choose("yes"), d: () => choose("no"),
      o: () => document.querySelector("#outcome input")?.focus(),
    }[event.key.toLowerCase()];
    if (act) { event.preventDefault(); act(); }
  });

  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target.id === "queue") noticeNew();
    if (event.detail.target.id === "detail") {
      for (const card of cards()) card.toggleAttribute("aria-current", false);
      document.querySelector(`.card[data-alert="${opened()}"]`)?.setAttribute("aria-current", "true");
      beginLook();
      document.querySelector("#detail").focus({ preventScroll: true });
    }
  });

  // The list is redrawn under the reader's hands: keep the focus on the same card.
  let focused = null;
  document.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.target.id === "queue") focused = document.activeElement?.dataset?.alert ?? null;
  });
  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target.id === "queue" && focused) document.querySelector(`.card[data-alert="${focused}"]`)?.focus();
  });

  // Asked for by the page and not by the card: the list may be redrawn while the answer is on its way.
  document.querySelector("#queue").addEventListener("click", (event) => {
    const card = event.target.closest(".card");
    if (card) htmx.ajax("GET", `/alerts/${card.dataset.alert}`, { target: "#detail", swap: "innerHTML" });
  });

  document.querySelector("#sound").addEventListener("click", (event) => {
    audio = audio ? null : new AudioContext();
    event.target.textContent = audio ? "Sound on" : "Sound off";
    event.target.setAttribute("aria-pressed", String(Boolean(audio)));
    beep(1);
  });
  // The control room cannot be reached: say so, and ask until it answers. After a restart it answers with the sign-in.
  const unreachable = document.querySelector("#unreachable");
  let asking = 0;
  function lost() {
    unreachable.hidden = false;
    document.body.classList.add("lost");
    if (!asking) asking = window.setInterval(() => htmx.ajax("GET", "/queue", { target: "#queue", swap: "innerHTML" }), 2000);
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
