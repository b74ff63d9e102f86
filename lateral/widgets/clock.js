// Plays a tissue again: a row of cells with their states at one time, and a cursor at that time over the picture. All
// of it happens in the page, so that it is smooth while the kernel is busy.
const INTERVAL = 40; // ms from one time to the next

function make(tag, properties) {
  return Object.assign(document.createElement(tag), properties);
}

function render({ model, el }) {
  el.classList.add("lateral-clock");
  const button = make("button", { className: "jupyter-button", type: "button" });
  const slider = make("input", { type: "range", min: 0, step: 1, ariaLabel: "time" });
  const reading = make("span", { className: "lateral-time" });
  const cells = make("div", { className: "lateral-cells", role: "img" });
  const cursor = make("div", { className: "lateral-cursor" });
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
    while (cells.children.length > n) cells.lastChild.remove();
    while (cells.children.length < n) cells.append(make("div", {}));
    states().subarray(row * n, (row + 1) * n).forEach((state, i) => {
      cells.children[i].style.background = model.get("colours")[state];
      cells.children[i].title = `cell ${i + 1}: ${(state / 255).toFixed(2)}`;
    });
    cells.ariaLabel = `states of the cells at time ${time.toFixed(1)}`;
    const picture = el.closest(".lateral-app")?.querySelector(".lateral-picture");
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
  const names = ["value", "states", "panel"].map((name) => `change:${name}`);
  names.forEach((name) => model.on(name, take));
  take();
  requestAnimationFrame(paint); // once it is in the page, beside the picture
  return () => {
    cancelAnimationFrame(request);
    names.forEach((name) => model.off(name, take));
    cursor.remove();
  };
}

export default { render };
