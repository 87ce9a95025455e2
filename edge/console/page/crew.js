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
