"use strict";
// Shows the images behind a number of the confusion matrix: pointed at, focused, or kept by a click.
(() => {
  const { names, cells, images, probabilities } = JSON.parse(document.getElementById("examples").textContent);
  const matrix = document.getElementById("matrix");
  const buttons = [...matrix.querySelectorAll("button")];
  const gallery = document.getElementById("gallery");
  const [title, note, grid] = ["h3", "p", ".images"].map((part) => gallery.querySelector(part));
  let kept = null;

  function picture(index, words) {
    const figure = document.createElement("figure");
    const image = new Image();
    image.src = images[index];
    image.alt = `${words}, image ${index}`;
    const caption = document.createElement("figcaption");
    caption.textContent = probabilities[index];
    figure.append(image, caption);
    return figure;
  }

  function show(button) {
    const [row, column] = button.dataset.cell.split("-").map(Number);
    const found = cells[button.dataset.cell] ?? [];
    const words = row === column ? names[row] : `${names[row]} taken for ${names[column]}`;
    title.textContent = row === column ? `${names[row]}, recognised` : words;
    const count = Number(button.textContent);
    note.textContent = found.length === 0 ? `${count} of the test images, not on this page` : found.length < count ? `${found.length} of ${count.toLocaleString("en")} images, most confident first` : `${count === 1 ? "1 image" : `${count} images`}, most confident first`;
    grid.replaceChildren(...found.map((index) => picture(index, words)));
    matrix.querySelectorAll("th").forEach((heading) => heading.classList.remove("lit"));
    matrix.tBodies[0].rows[row].cells[0].classList.add("lit");
    matrix.tHead.rows[0].cells[column + 1].classList.add("lit");
  }

  function keep(button) {
    kept = kept === button ? null : button;
    buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === kept)));
    show(button);
    if (kept && getComputedStyle(gallery).position !== "sticky") gallery.scrollIntoView({ block: "nearest" });
  }

  function neighbour(button, key) {
    const [down, along] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[key];
    let [row, column] = button.dataset.cell.split("-").map(Number);
    for (;;) {
      row += down;
      column += along;
      if (row < 0 || column < 0 || row >= names.length || column >= names.length) return null;
      const found = matrix.querySelector(`[data-cell="${row}-${column}"]`);
      if (found) return found;
    }
  }

  // Tab stops at the table once, and the arrow keys move within it.
  let tabStop = buttons[0];
  buttons.forEach((button) => { button.tabIndex = button === tabStop ? 0 : -1; });

  for (const button of buttons) {
    button.addEventListener("focus", () => {
      tabStop.tabIndex = -1;
      tabStop = button;
      tabStop.tabIndex = 0;
    });
    for (const event of ["mouseenter", "focus"]) button.addEventListener(event, () => kept || show(button));
    button.addEventListener("click", () => keep(button));
    button.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && kept) keep(kept);
      if (!event.key.startsWith("Arrow")) return;
      event.preventDefault();
      neighbour(button, event.key)?.focus();
    });
  }

  const mostConfused = buttons.filter((button) => button.classList.contains("wrong")).sort((a, b) => b.textContent - a.textContent)[0];
  const first = mostConfused || buttons[0];
  if (first) show(first);
})();
