// The rule as a curve that is drawn with the pointer. Values stand at evenly spaced neighbour means from 0 to 1.
const PAD = { left: 46, right: 10, top: 8, bottom: 34 };
const HEIGHT = 180;

function render({ model, el }) {
  const canvas = document.createElement("canvas");
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", "the rule f; draw it with the pointer, or move the handles beside it");
  canvas.style.cssText = `display: block; width: 100%; height: ${HEIGHT}px; cursor: crosshair; touch-action: none`;
  el.append(canvas);
  let values = [...model.get("values")];
  let last = null; // the sample that the pointer was over, and its rate, while it is pressed

  const bound = () => model.get("bound");
  const width = () => canvas.clientWidth - PAD.left - PAD.right;
  const height = () => HEIGHT - PAD.top - PAD.bottom;
  const xOf = (share) => PAD.left + share * width();
  const yOf = (rate) => PAD.top + (0.5 - rate / (2.2 * bound())) * height();

  function paint() {
    const scale = window.devicePixelRatio || 1;
    canvas.width = canvas.clientWidth * scale;
    canvas.height = HEIGHT * scale;
    const draw = canvas.getContext("2d");
    draw.scale(scale, scale);
    draw.font = `12px ${getComputedStyle(el).fontFamily}`;
    draw.fillStyle = draw.strokeStyle = getComputedStyle(el).color;
    const line = (points, style, lineWidth, dashes = []) => {
      draw.save();
      Object.assign(draw, { strokeStyle: style || draw.strokeStyle, lineWidth });
      draw.setLineDash(dashes);
      draw.beginPath();
      points.forEach(([x, y]) => draw.lineTo(x, y));
      draw.stroke();
      draw.restore();
    };
    const curve = (rates) => rates.map((rate, i) => [xOf(i / (rates.length - 1)), yOf(rate)]);
    draw.textAlign = "center";
    for (const share of [0, 0.2, 0.4, 0.6, 0.8, 1]) draw.fillText(share.toFixed(1), xOf(share), HEIGHT - 19);
    draw.fillText("neighbour mean s̄", xOf(0.5), HEIGHT - 4);
    draw.textAlign = "right";
    for (const rate of [-bound(), 0, bound()]) draw.fillText(rate, PAD.left - 6, yOf(rate) + 4);
    draw.fillText("dashed: " + model.get("reference_name"), xOf(1), PAD.top + 10);
    draw.save();
    draw.translate(13, yOf(0));
    draw.rotate(-Math.PI / 2);
    draw.textAlign = "center";
    draw.fillText("rate f (1 / time)", 0, 0);
    draw.restore();
    line([[xOf(0), PAD.top], [xOf(0), yOf(-1.1 * bound())], [xOf(1), yOf(-1.1 * bound())]], null, 1);
    line([[xOf(0), yOf(0)], [xOf(1), yOf(0)]], "grey", 1, [2, 3]);
    line(curve(model.get("reference")), null, 1, [6, 4]);
    line(curve(values), model.get("colour"), 2.5);
  }

  function put(event) {
    const box = canvas.getBoundingClientRect();
    const clip = (x, low, high) => Math.min(Math.max(x, low), high);
    const end = values.length - 1;
    const at = Math.round(clip((event.clientX - box.left - PAD.left) / width(), 0, 1) * end);
    const share = 0.5 - (event.clientY - box.top - PAD.top) / height();
    const rate = clip(2.2 * bound() * share, -bound(), bound());
    const from = last || { at, rate };
    // A quick pointer jumps over samples: those between lie on a line.
    const step = at < from.at ? -1 : 1;
    for (let i = from.at; ; i += step) {
      const along = at === from.at ? 1 : (i - from.at) / (at - from.at);
      values[i] = from.rate + along * (rate - from.rate);
      if (model.get("odd")) values[end - i] = 2 * i === end ? 0 : -values[i];
      if (i === at) break;
    }
    if (model.get("odd") && end % 2 === 0) values[end / 2] = 0;
    last = { at, rate };
    paint();
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    event.preventDefault();
    canvas.setPointerCapture(event.pointerId);
    last = null;
    put(event);
  });
  canvas.addEventListener("pointermove", (event) => last && put(event));
  const release = () => {
    if (!last) return;
    last = null;
    model.set("values", [...values]);
    model.save_changes();
  };
  canvas.addEventListener("pointerup", release);
  canvas.addEventListener("pointercancel", release);

  const take = () => {
    if (last) return; // the pointer is drawing just now
    values = [...model.get("values")];
    paint();
  };
  model.on("change:values", take);
  model.on("change:reference", paint);
  const size = new ResizeObserver(paint);
  const theme = new MutationObserver(() => setTimeout(paint, 300));
  size.observe(canvas);
  theme.observe(document.body, { attributes: true });
  return () => {
    size.disconnect();
    theme.disconnect();
    model.off("change:values", take);
    model.off("change:reference", paint);
  };
}

export default { render };
