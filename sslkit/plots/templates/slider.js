"use strict";
(() => {
  const slider = document.getElementById("mass"), told = document.getElementById("mass-told");
  const figures = Array.from(document.querySelectorAll("figure[data-steps]"), figure => ({
    node: figure,
    steps: Uint8Array.from(atob(figure.dataset.steps), letter => letter.charCodeAt(0)),
    columns: Number(figure.dataset.columns),
    photo: "overPhoto" in figure.dataset ? figure.closest("section").querySelector("img") : null,
    image: figure.querySelector("img"),
    caption: figure.querySelector("figcaption"),
    title: figure.querySelector("figcaption").textContent,
  }));
  function replace(figure) {
    const canvas = document.createElement("canvas");
    canvas.width = figure.image.width = figure.image.naturalWidth;
    canvas.height = figure.image.height = figure.image.naturalHeight;
    canvas.setAttribute("role", "img");
    figure.image.replaceWith(canvas);
    return canvas;
  }
  function draw(figure, percent) {
    const canvas = figure.canvas ??= replace(figure), pen = canvas.getContext("2d");
    const { steps, columns } = figure, rows = steps.length / columns;
    // A pixel shows the patch that contains its centre.
    const edge = (patch, patches, pixels) => Math.ceil(patch * pixels / patches - 0.5);
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, canvas.width, canvas.height);
    if (figure.photo) pen.drawImage(figure.photo, 0, 0, canvas.width, canvas.height);
    pen.fillStyle = figure.photo ? "{{ shade }}" : "#000";
    let kept = 0;
    steps.forEach((step, patch) => {
      if (step <= percent) { kept += 1; return; }
      const column = patch % columns, row = (patch - column) / columns;
      const left = edge(column, columns, canvas.width), top = edge(row, rows, canvas.height);
      pen.fillRect(left, top, edge(column + 1, columns, canvas.width) - left, edge(row + 1, rows, canvas.height) - top);
    });
    const patches = `${kept} of ${steps.length} patches`;
    figure.caption.textContent = `${figure.title.replace(/[0-9.]+\u00a0%/, percent + "\u00a0%")}, ${patches}`;
    canvas.setAttribute("aria-label", `${figure.image.alt.replace(/[0-9.]+ %(?!.* %)/, percent + " %")}, ${patches}`);
  }
  slider.addEventListener("input", () => {
    const percent = Number(slider.value);
    told.textContent = `${percent} %`;
    slider.setAttribute("aria-valuetext", `${percent} percent of the mass`);
    figures.forEach(figure => draw(figure, percent));
  });
  document.querySelector(".mass").hidden = false;
})();
