// Keys for a PIN on a screen without a keyboard.
"use strict";
(() => {
  const pin = document.querySelector("#pin");
  const keypad = document.querySelector("#keypad");
  if (!keypad) return;
  keypad.hidden = false;
  document.querySelector("form > .go").hidden = true;
  keypad.addEventListener("click", (event) => {
    const digit = event.target.dataset.digit;
    if (digit === "clear") pin.value = "";
    else if (digit) pin.value += digit;
  });
})();
