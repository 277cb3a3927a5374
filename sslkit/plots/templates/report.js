(() => {
  "use strict";
  // The page's interaction: read values off curves, hide lines, enlarge pictures, copy commands.
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  const SVG = "http://www.w3.org/2000/svg";
  const MANY = 8; // with more lines than this, only the nearest one is read off
  const hidden = new Set(); // numbers of the runs whose lines are hidden
  const digits = (value) => {
    const size = Math.abs(value);
    return value === 0 || (size >= 0.001 && size < 1e7) ? String(Number(value.toPrecision(4))) : value.toExponential(3);
  };
  document.documentElement.classList.add("live");

  class Chart {
    constructor(plot) {
      const figure = plot.parentElement;
      this.plot = plot;
      this.data = JSON.parse(figure.querySelector("script").textContent);
      this.svg = plot.querySelector("svg");
      this.reading = plot.querySelector(".reading");
      this.said = figure.querySelector("[role=status]");
      this.lines = this.data.lines.map((line, number) => ({
        ...line,
        parts: ["line", "band"].map((part) => document.getElementById(`${plot.dataset.chart}-${part}-${number}`)).filter(Boolean),
        colour: `var(--series-${line.run % 6})`,
        rows: line.x.map((_, row) => row).filter((row) => line.x[row] !== null && line.y[row] !== null), // without the gaps
      }));
      const [, top, , bottom] = this.data.box;
      this.rule = this.draw("line", { y1: top, y2: bottom, stroke: "currentColor", "stroke-width": 0.8, "stroke-opacity": 0.5 });
      this.dot = this.draw("circle", { r: 3.6, "stroke-width": 1.5 });
      this.leave();
      plot.tabIndex = 0;
      plot.setAttribute("role", "group");
      plot.setAttribute("aria-label", `${figure.querySelector("figcaption b").textContent}: arrow keys read off values`);
      for (const kind of ["pointermove", "pointerdown"]) plot.addEventListener(kind, (event) => this.point(event));
      for (const kind of ["pointerleave", "blur"]) plot.addEventListener(kind, () => this.leave());
      plot.addEventListener("keydown", (event) => this.key(event));
      plot.addEventListener("focus", () => { if (plot.matches(":focus-visible")) this.enter(); });
    }
    draw(kind, attributes) {
      const made = document.createElementNS(SVG, kind);
      for (const [key, value] of Object.entries({ class: "cursor", ...attributes })) made.setAttribute(key, value);
      return this.svg.appendChild(made);
    }
    visible() { return this.lines.filter((line) => !hidden.has(line.run) && line.rows.length); }
    // Where a point of a line is, in the units of the SVG.
    place(line, row) {
      const { box: [left, top, right, bottom], x, y } = this.data;
      return [
        left + ((line.x[row] - x[0]) / (x[1] - x[0])) * (right - left),
        bottom - ((line.y[row] - y[0]) / (y[1] - y[0])) * (bottom - top),
      ];
    }
    nearest(line, x) {
      return line.rows.reduce((best, row) => (Math.abs(line.x[row] - x) < Math.abs(line.x[best] - x) ? row : best));
    }
    point(event) {
      const matrix = this.svg.getScreenCTM();
      if (!matrix) return;
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix.inverse());
      const { box: [left, , right], x } = this.data;
      const wanted = x[0] + ((Math.min(Math.max(at.x, left), right) - left) / (right - left)) * (x[1] - x[0]);
      let best = null;
      for (const line of this.visible()) {
        const row = this.nearest(line, wanted);
        const [px, py] = this.place(line, row);
        const distance = Math.hypot(px - at.x, py - at.y);
        if (!best || distance < best.distance) best = { line, row, distance };
      }
      if (best) this.show(best.line, best.row);
    }
    enter() {
      const [line] = this.visible();
      if (line) this.show(line, line.rows[line.rows.length - 1], true);
    }
    key(event) {
      if (event.key === "Escape") return this.leave();
      const lines = this.visible();
      if (!lines.length || event.ctrlKey || event.altKey || event.metaKey) return;
      const line = lines.includes(this.line) ? this.line : lines[0];
      const at = Math.max(line.rows.indexOf(line === this.line ? this.row : -1), 0);
      const last = line.rows.length - 1;
      const moves = { ArrowLeft: at - 1, ArrowRight: at + 1, PageUp: at - 10, PageDown: at + 10, Home: 0, End: last };
      if (event.key in moves) {
        this.show(line, line.rows[Math.min(Math.max(moves[event.key], 0), last)], true);
      } else if (event.key === "ArrowUp" || event.key === "ArrowDown") {
        const step = event.key === "ArrowDown" ? 1 : -1;
        const next = lines[(lines.indexOf(line) + step + lines.length) % lines.length];
        this.show(next, this.nearest(next, line.x[line.rows[at]]), true);
      } else return;
      event.preventDefault();
    }
    show(line, row, aloud = false) {
      Object.assign(this, { line, row });
      const [x, y] = this.place(line, row);
      for (const [key, value] of Object.entries({ x1: x, x2: x })) this.rule.setAttribute(key, value);
      for (const [key, value] of Object.entries({ cx: x, cy: y })) this.dot.setAttribute(key, value);
      this.dot.setAttribute("style", `fill: ${line.colour}; stroke: var(--paper)`);
      for (const each of [this.rule, this.dot]) each.style.display = "";
      this.write(line, row);
      // Next to the cursor, on the side with more room.
      const { width, height } = this.svg.viewBox.baseVal;
      const across = (x / width) * this.plot.clientWidth, down = (y / height) * this.plot.clientHeight;
      const { offsetWidth: w, offsetHeight: h } = this.reading;
      const left = across + 12 + w <= this.plot.clientWidth ? across + 12 : across - 12 - w;
      this.reading.style.left = `${Math.min(Math.max(left, 0), Math.max(this.plot.clientWidth - w, 0))}px`;
      this.reading.style.top = `${Math.max(Math.min(down - h / 2, this.plot.clientHeight - h), 0)}px`;
      if (aloud) this.said.textContent = `${line.name}, ${this.data.time} ${digits(line.x[row])}: ${digits(line.y[row])}`;
    }
    write(line, row) {
      const text = (kind, words, name = "") => Object.assign(document.createElement(kind), { textContent: words, className: name });
      const lines = this.visible(), shown = lines.length > MANY ? [line] : lines;
      const rows = shown.map((each) => {
        const at = each === line ? row : this.nearest(each, line.x[row]);
        const entry = text("div", "", each === line ? "here" : "");
        const swatch = text("i", "");
        swatch.style.cssText = `flex: none; width: .7rem; height: .2rem; background: ${each.colour}`;
        entry.append(swatch, text("span", each.name), text("b", digits(each.y[at])));
        return entry;
      });
      this.reading.replaceChildren(text("p", `${this.data.time} ${digits(line.x[row])}`), ...rows);
      this.reading.hidden = false;
    }
    leave() {
      this.line = null;
      this.reading.hidden = true;
      for (const each of [this.rule, this.dot]) each.style.display = "none";
    }
    refresh() {
      for (const line of this.lines) for (const part of line.parts) part.style.display = hidden.has(line.run) ? "none" : "";
      this.leave();
    }
  }

  const charts = all("[data-chart]").map((plot) => new Chart(plot));
  for (const button of all("[data-run]")) {
    button.addEventListener("click", () => {
      const run = Number(button.dataset.run);
      if (!hidden.delete(run)) hidden.add(run);
      for (const other of all(`[data-run="${run}"]`)) other.setAttribute("aria-pressed", String(!hidden.has(run)));
      for (const chart of charts) chart.refresh();
    });
  }

  // <dialog> closes on Escape, keeps the focus, and returns it to the picture's button.
  const dialog = document.querySelector("dialog");
  for (const button of all(".enlarge")) {
    button.addEventListener("click", () => {
      const image = button.querySelector("img").cloneNode();
      // A small picture is enlarged, as the button promises.
      const room = Math.min((0.92 * innerWidth) / image.width, (0.96 * innerHeight - 110) / image.height);
      // One that would be too small to read is shown at full resolution, and scrolls.
      image.classList.toggle("full", room < 0.8);
      if (room > 1) image.style.width = `${Math.round(image.getAttribute("width") * Math.min(room, 3))}px`;
      dialog.querySelector("p").textContent = button.closest("figure").querySelector("figcaption").textContent;
      dialog.querySelector(".frame").replaceChildren(image);
      dialog.showModal();
    });
  }
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });

  const said = document.getElementById("said");
  for (const button of all(".copy")) {
    button.addEventListener("click", async () => {
      const code = button.parentElement.querySelector("code");
      let done = false;
      try {
        await navigator.clipboard.writeText(code.textContent);
        done = true;
      } catch {
        // This page has no clipboard: select the command, and try the old way of copying.
        getSelection().selectAllChildren(code);
        try { done = document.execCommand("copy"); } catch { /* the selection remains */ }
      }
      button.textContent = said.textContent = done ? "Copied" : "Selected: Ctrl+C";
      setTimeout(() => { button.textContent = "Copy"; said.textContent = ""; }, 2500);
    });
  }

  // Mark the section that is being read in the list of sections.
  const links = new Map(all("nav a").map((link) => [link.getAttribute("href").slice(1), link]));
  const mark = () => {
    const shown = [...links.keys()].filter((id) => document.getElementById(id).getBoundingClientRect().top < innerHeight / 3);
    for (const [id, link] of links) {
      if (id === (shown.at(-1) ?? "overview")) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  };
  let waiting = false;
  addEventListener("scroll", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; mark(); });
  }, { passive: true });
  mark();

  // Print what is folded away, too.
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = all("details:not([open])");
    for (const each of folded) each.open = true;
  });
  addEventListener("afterprint", () => { for (const each of folded) each.open = false; });
})();
