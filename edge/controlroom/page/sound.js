// The sound: a tone for each new alert, and again and again while one stands escalated. The browser remembers that it is on.
"use strict";
const sound = (() => {
  const KEY = "lfr-sound";
  const AGAIN_MS = 5000;
  const button = document.querySelector("#sound");
  let audio = null;
  let alarm = 0;

  function show() {
    const waits = audio && audio.state !== "running";
    button.textContent = audio ? (waits ? "Sound on: press any key" : "Sound on") : "Sound off";
    button.classList.toggle("waiting", Boolean(waits));
    button.setAttribute("aria-pressed", String(Boolean(audio)));
  }

  function beep(times) {
    if (audio?.state !== "running") return;
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

  function turn(on) {
    window.localStorage.setItem(KEY, on ? "on" : "off");
    if (!on) { audio?.close(); audio = null; show(); return; }
    audio = new AudioContext();
    audio.addEventListener("statechange", show);
    show();
  }

  // After a reload a browser plays nothing before a key or a click; the first one is enough.
  function wake() {
    if (audio && audio.state !== "running") audio.resume().then(() => { show(); beep(1); });
  }

  function escalated(any) {
    if (any && !alarm) alarm = window.setInterval(() => beep(3), AGAIN_MS);
    if (!any && alarm) { window.clearInterval(alarm); alarm = 0; }
  }

  button.addEventListener("click", () => { turn(!audio); beep(1); });
  document.addEventListener("keydown", wake);
  document.addEventListener("pointerdown", wake);
  if (window.localStorage.getItem(KEY) === "on") turn(true); else show();
  return { beep, escalated };
})();
