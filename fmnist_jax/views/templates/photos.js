"use strict";
// Shows the pictures that are asked for, in the order that is asked for.
(() => {
  const form = document.querySelector("form");
  const list = document.querySelector(".photos");
  const cards = [...list.children];
  const orders = {
    place: (one, other) => one.place - other.place,
    share: (one, other) => one.share - other.share,
    class: (one, other) => one.class.localeCompare(other.class) || other.share - one.share,
  };

  function show() {
    const { unsure, class: name, order } = form.elements;
    for (const card of cards) card.hidden = (unsure.checked && !("unsure" in card.dataset)) || (name.selectedIndex > 0 && card.dataset.class !== name.value);
    cards.sort((one, other) => orders[order.value](one.dataset, other.dataset) || one.dataset.place - other.dataset.place);
    list.append(...cards);
    const shown = cards.filter((card) => !card.hidden).length;
    form.querySelector("output").textContent = shown < cards.length ? `${shown} of ${cards.length}` : "";
  }

  form.hidden = false;
  form.addEventListener("input", show);
  show();
})();
