// What the page does beyond htmx: it says when it has lost the van, changes the theme, and tries the sound.
/* global theme */
"use strict";
(() => {
  // The van says something at least every two seconds. Silence, a broken stream and a frozen van are the same to a crew.
  const LOST_MS = 6000;
  const lost = document.querySelector("#lost");
  let heard = performance.now();
  function say(gone) {
    lost.hidden = !gone;
    document.body.classList.toggle("lost", gone);
  }
  document.addEventListener("htmx:sseMessage", () => { heard = performance.now(); say(false); });
  document.addEventListener("htmx:sseOpen", (event) => {
    event.detail.source.addEventListener("beat", () => { heard = performance.now(); say(false); });
  });
  document.addEventListener("htmx:sseError", () => say(true));
  window.setInterval(() => { if (performance.now() - heard > LOST_MS) say(true); }, 500);

  // The live view: asked for again and again while it is open and somebody looks; the server keeps nothing of it, nor do we.
  const look = document.querySelector("#look");
  if (look) {
    const NEXT_MS = 300;
    const AGAIN_MS = 1500;
    const views = document.querySelector("#views");
    let count = 0;
    function ask(image) {
      if (views.hidden || document.hidden) { show(image, false); window.setTimeout(() => ask(image), AGAIN_MS); return; }
      count += 1;
      image.src = `/view/${image.dataset.camera}.jpg?${count}`;
    }
    function show(image, good) {
      image.hidden = !good;
      image.parentElement.querySelector("figcaption span").hidden = good;
    }
    for (const image of views.querySelectorAll("img")) {
      image.addEventListener("load", () => { show(image, true); window.setTimeout(() => ask(image), NEXT_MS); });
      image.addEventListener("error", () => { show(image, false); window.setTimeout(() => ask(image), AGAIN_MS); });
      ask(image);
    }
    look.addEventListener("click", () => {
      views.hidden = !views.hidden;
      look.setAttribute("aria-pressed", String(!views.hidden));
    });
  }

  document.querySelector("#theme").addEventListener("click", theme.next);
  document.querySelector("#sound").addEventListener("click", () => {
    const audio = new AudioContext();
    for (let n = 0; n < 3; n += 1) {
      const tone = audio.createOscillator();
      const gain = audio.createGain();
      tone.frequency.value = 880;
      gain.gain.value = 0.3;
      tone.connect(gain).connect(audio.destination);
      tone.start(audio.currentTime + n * 0.3);
      tone.stop(audio.currentTime + n * 0.3 + 0.15);
    }
    window.setTimeout(() => audio.close(), 1500);
  });
})();
