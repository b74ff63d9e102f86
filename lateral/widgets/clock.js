// Plays a tissue again: its cells with their states at one time, in a row or in the plane, and a cursor at that time
// over the picture. All of it happens in the page, so that it is smooth while the kernel is busy.
const INTERVAL = 40; // ms from one time to the next

function make(tag, properties) {
  return Object.assign(document.createElement(tag), properties);
}

// The tissue in the plane: a canvas over that of the picture.
function plane(model) {
  const canvas = make("canvas", { className: "lateral-plane", role: "img" });
  let shapes = []; // of the cells, in pixels of the canvas

  function fit() {
    const [left, bottom, width, height] = model.get("canvas");
    const share = { left: left, top: 1 - bottom - height, width: width, height: height };
    for (const [name, value] of Object.entries(share)) canvas.style[name] = `${100 * value}%`;
    const ratio = window.devicePixelRatio || 1;
    const size = canvas.getBoundingClientRect();
    canvas.width = Math.round(ratio * size.width);
    canvas.height = Math.round(ratio * size.height);
    const [x0, x1, y0, y1] = model.get("view");
    const x = (value) => (canvas.width * (value - x0)) / (x1 - x0);
    const y = (value) => (canvas.height * (value - y1)) / (y0 - y1);
    shapes = model.get("cells").map((corners) => {
      const shape = new Path2D();
      if (corners.length === 3) {
        shape.arc(x(corners[0]), y(corners[1]), x(corners[2]) - x(0), 0, 2 * Math.PI);
        return shape;
      }
      for (let i = 0; i < corners.length; i += 2) shape.lineTo(x(corners[i]), y(corners[i + 1]));
      shape.closePath();
      return shape;
    });
    return { x, y, unit: (canvas.width / 300) * Math.min(1, 12 / Math.sqrt(shapes.length)) };
  }

  function paint(states) {
    const { x, y, unit } = fit();
    const context = canvas.getContext("2d");
    context.fillStyle = model.get("ground");
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.lineCap = "round";
    const discs = model.get("cells")[0].length === 3;
    const lines = (alike, colour, width) => {
      context.strokeStyle = colour;
      context.lineWidth = width * unit;
      context.beginPath();
      for (const [i, j, ...ends] of model.get("lines")) {
        if (alike && states[i] >= 128 !== states[j] >= 128) continue;
        context.moveTo(x(ends[0]), y(ends[1]));
        context.lineTo(x(ends[2]), y(ends[3]));
      }
      context.stroke();
    };
    if (discs) {
      lines(false, "lightgrey", 1.4);
      lines(true, model.get("wall_colour"), 2.5);
    }
    context.strokeStyle = discs ? "grey" : "white";
    context.lineWidth = unit;
    shapes.forEach((shape, i) => {
      context.fillStyle = model.get("colours")[states[i]];
      context.fill(shape);
      context.stroke(shape);
    });
    if (!discs) lines(true, model.get("wall_colour"), 2.5);
    canvas.onmousemove = (event) => {
      const ratio = canvas.width / canvas.clientWidth;
      const at = (shape) => context.isPointInPath(shape, ratio * event.offsetX, ratio * event.offsetY);
      const i = shapes.findIndex(at);
      canvas.title = i < 0 ? "" : `cell ${i + 1}: ${(states[i] / 255).toFixed(2)}`;
    };
  }
  return { canvas, paint };
}

function render({ model, el }) {
  el.classList.add("lateral-clock");
  const button = make("button", { className: "jupyter-button", type: "button" });
  const slider = make("input", { type: "range", min: 0, step: 1, ariaLabel: "time" });
  const reading = make("span", { className: "lateral-time" });
  const cells = make("div", { className: "lateral-cells", role: "img" });
  const cursor = make("div", { className: "lateral-cursor" });
  const inPlane = plane(model);
  el.append(button, slider, reading, cells);
  let request = null; // of the next frame, while it plays
  let row = 0;

  const states = () => {
    const { buffer, byteOffset, byteLength } = model.get("states");
    return new Uint8Array(buffer, byteOffset, byteLength);
  };
  const last = () => states().length / model.get("n_cells") - 1;

  function paint() {
    const n = model.get("n_cells");
    const time = row * model.get("dt");
    slider.max = last();
    slider.value = row;
    reading.textContent = `t = ${time.toFixed(1)}`;
    button.textContent = request === null ? "▶ Play" : "❚❚ Pause";
    const now = states().subarray(row * n, (row + 1) * n);
    const picture = el.closest(".lateral-app")?.querySelector(".lateral-picture");
    const isPlane = model.get("cells").length === n;
    cells.hidden = isPlane;
    const inRow = isPlane ? 0 : n;
    while (cells.children.length > inRow) cells.lastChild.remove();
    while (cells.children.length < inRow) cells.append(make("div", {}));
    [...cells.children].forEach((cell, i) => {
      cell.style.background = model.get("colours")[now[i]];
      cell.title = `cell ${i + 1}: ${(now[i] / 255).toFixed(2)}`;
    });
    const label = `states of the cells at time ${time.toFixed(1)}`;
    (isPlane ? inPlane.canvas : cells).ariaLabel = label;
    if (isPlane && picture) {
      if (inPlane.canvas.parentElement !== picture) picture.append(inPlane.canvas);
      inPlane.paint(now);
    }
    if (picture && cursor.parentElement !== picture) picture.append(cursor);
    const [left, bottom, width, height] = model.get("panel");
    cursor.style.left = `${100 * (left + (width * row) / Math.max(last(), 1))}%`;
    cursor.style.top = `${100 * (1 - bottom - height)}%`;
    cursor.style.height = `${100 * height}%`;
  }

  function tell() {
    model.set("value", row * model.get("dt"));
    model.save_changes();
  }

  function stop() {
    cancelAnimationFrame(request);
    request = null;
    paint();
    tell();
  }

  function play() {
    const first = row >= last() ? 0 : row;
    let start = null;
    const frame = (now) => {
      start ??= now;
      row = Math.min(first + Math.floor((now - start) / INTERVAL), last());
      if (row === last()) return stop();
      request = requestAnimationFrame(frame);
      paint();
    };
    request = requestAnimationFrame(frame);
  }

  button.addEventListener("click", () => (request === null ? play() : stop()));
  slider.addEventListener("input", () => {
    cancelAnimationFrame(request);
    request = null;
    row = Number(slider.value);
    paint();
  });
  slider.addEventListener("change", tell);
  const take = () => {
    if (request === null) row = Math.round(model.get("value") / model.get("dt"));
    row = Math.min(row, last());
    paint();
  };
  const names = ["value", "states", "panel", "cells", "canvas", "view", "ground"].map((name) => `change:${name}`);
  names.forEach((name) => model.on(name, take));
  take();
  requestAnimationFrame(paint); // once it is in the page, beside the picture
  return () => {
    cancelAnimationFrame(request);
    names.forEach((name) => model.off(name, take));
    cursor.remove();
    inPlane.canvas.remove();
  };
}

export default { render };
