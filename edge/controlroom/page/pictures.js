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

  const resized = new ResizeObserver(fit);

  // The server hands out the list's picture after the probe only, and counts from when it did.
  function begin() {
    const article = document.querySelector("#detail article");
    const probe = picture("probe");
    const reference = picture("reference");
    window.clearInterval(timer);
    resized.disconnect();
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

  return { begin };
})();
