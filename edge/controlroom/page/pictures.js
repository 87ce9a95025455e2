// The two pictures of the open alert: the camera's first, both faces at one scale, and the least time that they are looked at.
"use strict";
const pictures = (() => {
  let timer = 0;
  const picture = (id) => document.querySelector(`#${id}`);

  // Pixels between the eyes in the picture itself: the van measured the probe's, the list's is known from how it was cut.
  function eyes(image) {
    const width = image.naturalWidth;
    if (image.dataset.eyeShare) return width * Number(image.dataset.eyeShare);
    const share = Number(image.dataset.eyes) / width;
    return share >= Number(image.dataset.least) && share <= Number(image.dataset.most) ? Number(image.dataset.eyes) : NaN;
  }

  // As large as both frames allow with the eyes of both equally far apart; where that is not known, each as large as it can.
  function fit() {
    const loaded = ["probe", "reference"].map(picture).filter((image) => image?.naturalWidth);
    const room = (image) => {
      const frame = image.parentElement;
      return Math.min(frame.clientWidth / image.naturalWidth, frame.clientHeight / image.naturalHeight);
    };
    const apart = Math.min(...loaded.map((image) => room(image) * eyes(image)));
    for (const image of loaded) {
      const scale = Number.isFinite(apart) && apart > 0 ? apart / eyes(image) : room(image);
      image.style.width = `${image.naturalWidth * scale}px`;
      image.style.height = `${image.naturalHeight * scale}px`;
    }
  }

  function countDown(article) {
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
  }

  // -- a closer look: never instead of the two pictures side by side, which count as seen -----------------
  const ZOOMS = [1, 2, 4];
  const FLICKER_MS = 700;  // fewer than three changes a second, the most that WCAG 2.3.1 allows
  const STEP = 0.06;
  const view = { zoom: 0, x: 0, y: 0, flicker: 0 };
  const pair = () => document.querySelector("#detail .pair");

  // The faces are in the middle of both cuts: the same shift shows the same part of both.
  function move(x, y) {
    const most = (ZOOMS[view.zoom] - 1) / 2;
    view.x = Math.max(-most, Math.min(most, x));
    view.y = Math.max(-most, Math.min(most, y));
    for (const image of ["probe", "reference"].map(picture)) {
      if (image) image.style.transform = `translate(${view.x * 100}%, ${view.y * 100}%) scale(${ZOOMS[view.zoom]})`;
    }
  }

  function press(id, on, words) {
    const button = document.querySelector(`#${id}`);
    button?.setAttribute("aria-pressed", String(on));
    if (button && words) button.lastChild.textContent = words;
  }

  function zoom(to = (view.zoom + 1) % ZOOMS.length) {
    if (!pair()) return;
    view.zoom = to;
    pair().classList.toggle("zoomed", to > 0);
    press("zoom", to > 0, to > 0 ? `oom ×${ZOOMS[to]}` : "oom");
    move(view.x, view.y);
  }

  function pan(right, down) {
    if (!view.zoom || !pair()) return false;
    move(view.x - right * STEP * ZOOMS[view.zoom], view.y - down * STEP * ZOOMS[view.zoom]);
    return true;
  }

  function flicker(on = !view.flicker) {
    window.clearInterval(view.flicker);
    view.flicker = 0;
    const figures = [...(pair()?.querySelectorAll("figure") ?? [])];
    if (!figures.length) return;
    pair().classList.toggle("flicker", on);
    press("flicker", on);
    let front = 0;
    const turn = () => figures.forEach((figure, at) => figure.classList.toggle("front", at === front % 2));
    turn();
    if (on) view.flicker = window.setInterval(() => { front += 1; turn(); }, FLICKER_MS);
    fit();
  }

  function handle() {
    const frames = [...document.querySelectorAll("#detail .frame")];
    for (const frame of frames) {
      frame.addEventListener("pointerdown", (event) => { if (view.zoom) { frame.setPointerCapture(event.pointerId); event.preventDefault(); } });
      frame.addEventListener("pointermove", (event) => {
        if (!frame.hasPointerCapture(event.pointerId)) return;
        const image = frame.querySelector("img");
        move(view.x + event.movementX / image.clientWidth, view.y + event.movementY / image.clientHeight);
      });
    }
    document.querySelector("#zoom")?.addEventListener("click", () => zoom());
    document.querySelector("#flicker")?.addEventListener("click", () => flicker());
  }

  const resized = new ResizeObserver(fit);

  // The server hands out the list's picture after the probe only, and counts from when it did.
  function begin() {
    const article = document.querySelector("#detail article");
    const probe = picture("probe");
    const reference = picture("reference");
    window.clearInterval(timer);
    window.clearInterval(view.flicker);
    Object.assign(view, { zoom: 0, x: 0, y: 0, flicker: 0 });
    resized.disconnect();
    handle();
    if (!article || !probe || !reference) return;
    resized.observe(probe.parentElement);
    resized.observe(reference.parentElement);
    const show = () => {
      fit();
      reference.addEventListener("load", () => { fit(); countDown(article); }, { once: true });
      reference.src = reference.dataset.src;
    };
    if (probe.complete) show(); else probe.addEventListener("load", show, { once: true });
  }

  return { begin, zoom, pan, flicker };
})();
