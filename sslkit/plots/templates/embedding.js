"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const board = document.querySelector(".board"), area = document.querySelector(".map"), svg = area.querySelector("svg");
  const grid = svg.querySelector(".grid"), layer = svg.querySelector(".points"), ring = svg.querySelector(".ring");
  const tip = area.querySelector(".tip"), said = document.getElementById("said"), note = document.querySelector(".note");
  const THUMB = 96, REACH = 24;  // pixels: side of a thumbnail, and the distance within which a pointer finds a point
  const MARKS = [
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z", "M-3.6 -3.6h7.2v7.2h-7.2z", "M0 -4.8L4.6 3.4H-4.6z",
    "M0 -5L5 0L0 5L-5 0z", "M0 4.8L4.6 -3.4H-4.6z", "M-1.6 -4.6h3.2v3h3v3.2h-3v3h-3.2v-3h-3v-3.2h3z",
  ];
  const count = data.names.length;
  const alone = new Set();  // the only classes that are shown; empty shows all
  let map = data.maps[0], at = -1, places = [];

  const make = (parent, name, attributes, text) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const key in attributes) element.setAttribute(key, attributes[key]);
    if (text !== undefined) element.textContent = text;
    parent.append(element);
    return element;
  };
  const look = (number) => {
    const { colour, marker } = data.classes[number];
    return { d: MARKS[marker], class: `c${colour === null ? 6 : colour}` };
  };
  const shown = (i) => !alone.size || alone.has(data.class[i]);

  board.hidden = false;
  const points = data.names.map((_, i) => make(layer, "path", look(data.class[i])));
  ring.setAttribute("d", "M-8 0a8 8 0 1 0 16 0a8 8 0 1 0 -16 0z");
  ring.removeAttribute("hidden");
  ring.style.display = "none";

  function draw() {
    const size = area.clientWidth, left = 46, bottom = 44, inner = size - left - bottom / 4;
    const scale = (value, axis) => (value - map.window[axis][0]) / (map.window[axis][1] - map.window[axis][0]);
    const x = (value) => left + inner * scale(value, 0);
    const y = (value) => size - bottom - inner * scale(value, 1);
    svg.setAttribute("viewBox", `0 0 ${size} ${size}`);
    grid.replaceChildren();
    for (const tick of map.ticks[0]) {
      make(grid, "line", { x1: x(tick), x2: x(tick), y1: size - bottom - inner, y2: size - bottom });
      make(grid, "text", { x: x(tick), y: size - bottom + 16, "text-anchor": "middle" }, tick);
    }
    for (const tick of map.ticks[1]) {
      make(grid, "line", { x1: left, x2: left + inner, y1: y(tick), y2: y(tick) });
      make(grid, "text", { x: left - 6, y: y(tick) + 4, "text-anchor": "end" }, tick);
    }
    const middle = size - bottom - inner / 2;
    make(grid, "text", { class: "axis", x: left + inner / 2, y: size - 8, "text-anchor": "middle" }, map.axes[0]);
    make(grid, "text", { class: "axis", transform: `translate(12 ${middle}) rotate(-90)`, "text-anchor": "middle" }, map.axes[1]);
    places = points.map((_, i) => [x(map.x[i]), y(map.y[i])]);
    const small = size < 480 ? " scale(.8)" : "";
    points.forEach((point, i) => {
      point.setAttribute("transform", `translate(${places[i][0].toFixed(1)} ${places[i][1].toFixed(1)})${small}`);
    });
    area.setAttribute("aria-label", `${map.title} map of ${count} images`);
    note.textContent = map.note;
    show(at);
  }

  function show(i) {
    at = i;
    tip.hidden = i < 0;
    ring.style.display = i < 0 ? "none" : "";
    if (i < 0) return;
    const [x, y] = places[i], name = data.classes[data.class[i]].name;
    ring.setAttribute("transform", `translate(${x} ${y})`);
    tip.querySelector("b").textContent = name;
    tip.querySelector("small").textContent = data.names[i];
    const thumb = tip.querySelector(".thumb");
    if (thumb) {
      const { columns } = data.sprite;
      thumb.style.backgroundSize = `${columns * THUMB}px auto`;
      thumb.style.backgroundPosition = `-${(i % columns) * THUMB}px -${Math.floor(i / columns) * THUMB}px`;
    }
    // Next to the point, on the side with room.
    const { offsetWidth: width, offsetHeight: height } = tip, size = area.clientWidth;
    const across = x + 14 + width <= size ? x + 14 : Math.max(0, x - 14 - width);
    const down = Math.min(Math.max(0, y - height / 2), Math.max(0, size - height));
    tip.style.transform = `translate(${across}px, ${down}px)`;
  }

  function say() {
    said.textContent = at < 0 ? "" : `${data.classes[data.class[at]].name}, ${data.names[at]}`;
  }

  // The shown point of least `cost`; Infinity is never chosen.
  function best(cost) {
    let found = -1, least = Infinity;
    for (let i = 0; i < count; i++) {
      const value = shown(i) ? cost(places[i][0], places[i][1], i) : Infinity;
      if (value < least) [found, least] = [i, value];
    }
    return found;
  }

  function under(event) {
    const box = area.getBoundingClientRect(), px = event.clientX - box.left, py = event.clientY - box.top;
    const reach = event.pointerType === "touch" ? 1.5 * REACH : REACH;
    return best((x, y) => {
      const distance = Math.hypot(x - px, y - py);
      return distance <= reach ? distance : Infinity;
    });
  }

  // From one point to the nearest in a direction; points off to the side count as farther than those straight ahead.
  function step(dx, dy) {
    if (at < 0) return best((x, y) => Math.hypot(x - area.clientWidth / 2, y - area.clientWidth / 2));
    const [fromX, fromY] = places[at];
    const found = best((x, y, i) => {
      const ahead = (x - fromX) * dx + (y - fromY) * dy, aside = Math.abs((x - fromX) * dy) + Math.abs((y - fromY) * dx);
      return i !== at && ahead > 0 ? ahead + 2 * aside : Infinity;
    });
    return found < 0 ? at : found;
  }

  const ARROWS = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  area.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      show(-1);
      area.blur();
    } else if (ARROWS[event.key]) {
      event.preventDefault();
      show(step(...ARROWS[event.key]));
      say();
    }
  });
  area.addEventListener("focus", () => {
    // Only by keyboard: a click selects a point itself.
    if (area.matches(":focus-visible") && at < 0) {
      show(step(0, 0));
      say();
    }
  });
  area.addEventListener("blur", () => show(-1));
  area.addEventListener("pointermove", (event) => {
    if (event.pointerType !== "touch") show(under(event));
  });
  area.addEventListener("pointerdown", (event) => show(under(event)));
  area.addEventListener("pointerleave", (event) => {
    if (event.pointerType !== "touch") show(-1);
  });

  const all = document.querySelector(".legend .all"), buttons = [...document.querySelectorAll(".legend .class")];
  function filter() {
    all.setAttribute("aria-pressed", String(!alone.size));
    buttons.forEach((button, number) => button.setAttribute("aria-pressed", String(alone.has(number))));
    points.forEach((point, i) => point.classList.toggle("off", !shown(i)));
    show(-1);
  }
  buttons.forEach((button, number) => {
    const marker = look(number), path = button.querySelector("path");
    for (const key in marker) path.setAttribute(key, marker[key]);
    button.addEventListener("click", () => {
      if (!alone.delete(number)) alone.add(number);
      filter();
    });
  });
  all.addEventListener("click", () => {
    alone.clear();
    filter();
  });
  for (const radio of document.querySelectorAll(".methods input")) {
    radio.addEventListener("change", () => {
      map = data.maps[Number(radio.value)];
      draw();
    });
  }
  new ResizeObserver(draw).observe(area);
  draw();
})();
