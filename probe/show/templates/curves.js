"use strict";
/* The guidance curves: axes, units, a marker at the chosen step, numbers under the pointer. */
(() => {
  const { data, at, toStep } = window.probe;
  if (!data.guidance || !at("curves")) return;
  const steps = data.guidance.step;
  const SPACE = at("curves").firstElementChild.namespaceURI;
  const PANELS = [
    { title: "How hard the prompt pulls: norm of the difference, with − without prompt", names: ["difference_norm"], least: 0 },
    { title: "Does it keep its direction? Cosine", names: ["cosine_previous", "cosine_final"], least: 0, most: 1 },
  ].map((panel) => ({ ...panel, names: panel.names.filter((name) => name in data.guidance) })).filter((panel) => panel.names.length);
  const LEFT = 46, RIGHT = 14, HEIGHT = 150, TOP = 26, GAP = 34;
  let chosen = null, hovered = null, geometry = null;

  function make(tag, attributes, text) {
    const element = document.createElementNS(SPACE, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    if (text !== undefined) element.textContent = text;
    return element;
  }

  function ticks(low, high, count) {
    const rough = (high - low) / count || 1, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
    const found = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) found.push(Number((k * step).toPrecision(10)));
    return found;
  }

  /* The next tick above the largest value. */
  function top_of(low, most) {
    const marks = ticks(low, most, 4), last = marks[marks.length - 1];
    return last >= most - 1e-9 ? last : last + (marks.length > 1 ? marks[1] - marks[0] : most - last);
  }

  function draw() {
    const width = Math.max(at("curves").clientWidth, 200);
    const height = PANELS.length * (TOP + HEIGHT) + (PANELS.length - 1) * GAP + 44;
    const across = (step) => LEFT + ((step - steps[0]) / Math.max(steps[steps.length - 1] - steps[0], 1)) * (width - LEFT - RIGHT);
    const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": summary() });
    PANELS.forEach((panel, i) => drawPanel(svg, panel, TOP + i * (TOP + HEIGHT + GAP), width, across));
    svg.append(make("text", { x: (LEFT + width - RIGHT) / 2, y: height - 4, "text-anchor": "middle" }, "denoising step"));
    geometry = { width, across, svg, bottom: height - 40 };
    svg.append(make("line", { class: "now", y1: TOP, y2: geometry.bottom, visibility: "hidden" }));
    svg.addEventListener("pointermove", (event) => { hovered = under(event); mark(); });
    svg.addEventListener("pointerleave", () => { hovered = null; mark(); });
    svg.addEventListener("click", (event) => {
      const step = data.steps.indexOf(steps[under(event)]);
      if (step >= 0) toStep(step);
    });
    at("curves").replaceChildren(svg);
    mark();
  }

  function drawPanel(svg, panel, top, width, across) {
    const values = panel.names.flatMap((name) => data.guidance[name]).filter((value) => value !== null);
    const low = Math.min(panel.least, ...values), high = top_of(low, Math.max(panel.most ?? -Infinity, ...values) || 1);
    const down = (value) => top + HEIGHT - ((value - low) / (high - low)) * HEIGHT;
    svg.append(make("text", { class: "title", x: 0, y: top - 10 }, width < 520 ? panel.title.split(":")[0] : panel.title));
    for (const tick of ticks(low, high, 4)) {
      svg.append(make("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: down(tick), y2: down(tick) }));
      svg.append(make("text", { x: LEFT - 6, y: down(tick) + 4, "text-anchor": "end" }, String(tick)));
    }
    svg.append(make("line", { class: "axis", x1: LEFT, x2: width - RIGHT, y1: top + HEIGHT, y2: top + HEIGHT }));
    for (const tick of ticks(steps[0], steps[steps.length - 1], Math.max(2, Math.floor(width / 90)))) {
      if (Number.isInteger(tick)) svg.append(make("text", { x: across(tick), y: top + HEIGHT + 16, "text-anchor": "middle" }, String(tick)));
    }
    for (const name of panel.names) svg.append(make("path", { class: name, d: line(data.guidance[name], across, down) }));
    if (panel.names.length > 1) legend(svg, panel.names, top, width);
  }

  function line(values, across, down) {
    let pen = "M";
    return values.map((value, i) => {
      if (value === null) { pen = "M"; return ""; }
      const point = `${pen}${across(steps[i]).toFixed(1)},${down(value).toFixed(1)}`;
      pen = "L";
      return point;
    }).join("");
  }

  function legend(svg, names, top, width) {
    names.forEach((name, i) => {
      const y = top + HEIGHT - 10 - 18 * (names.length - 1 - i), x = width - RIGHT;
      svg.append(make("path", { class: name, d: `M${x - 180},${y}L${x - 146},${y}` }));
      svg.append(make("text", { x: x - 138, y: y + 4 }, data.curves[name].replace("cosine ", "")));
    });
  }

  function under(event) {
    const box = geometry.svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * geometry.width;
    return steps.reduce((best, step, i) => (Math.abs(geometry.across(step) - x) < Math.abs(geometry.across(steps[best]) - x) ? i : best), 0);
  }

  function mark() {
    const i = hovered ?? steps.indexOf(chosen);
    const now = geometry.svg.querySelector(".now");
    now.setAttribute("visibility", i < 0 ? "hidden" : "visible");
    if (i < 0) { at("curve-say").textContent = "Point at the curves for numbers; click to go to a step."; return; }
    now.setAttribute("x1", geometry.across(steps[i]));
    now.setAttribute("x2", geometry.across(steps[i]));
    const numbers = PANELS.flatMap((panel) => panel.names).map((name) => `${data.curves[name]} ${format(data.guidance[name][i])}`);
    at("curve-say").textContent = `Step ${steps[i]}: ${numbers.join(", ")}.`;
  }

  function format(value) { return value === null ? "none" : String(Number(value.toPrecision(3))); }

  function summary() {
    const norms = data.guidance.difference_norm.filter((value) => value !== null);
    const most = norms.indexOf(Math.max(...norms));
    return `Guidance over ${steps.length} steps: the norm of the difference is ${format(norms[0])} at first, ${format(norms[norms.length - 1])} at last, and largest, ${format(norms[most])}, at step ${steps[most]}. The numbers are in the table below.`;
  }

  document.addEventListener("moved", (event) => { chosen = event.detail; mark(); });
  new ResizeObserver(() => { if (!geometry || at("curves").clientWidth !== geometry.width) draw(); }).observe(at("curves"));
  draw();
})();
