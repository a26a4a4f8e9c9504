"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const percent = (share) => `${Number((100 * share).toPrecision(3))}\u00a0%`;
  const LAST = data.steps.length - 1;
  const state = { pinned: null, preview: null, all: true, step: LAST, shared: true, smooth: true, cell: null };

  const shown = () => state.preview ?? state.pinned;
  const when = () => (state.all ? `mean over all ${data.total} steps` : `step ${data.steps[state.step]}`);

  function load(src) {
    return new Promise((resolve, reject) => {
      const image = new Image();
      image.onload = () => resolve(image);
      image.onerror = () => reject(new Error("an image of this page cannot be read"));
      image.src = src;
    });
  }

  /* The maps: one grey sprite, each tile with its own lowest and highest value. */
  const maps = data.maps && {
    size: data.maps.width * data.maps.height,
    words: data.labels.length,
    fields: [],
    scales: new Map(),
    decode(image) {
      const canvas = document.createElement("canvas");
      canvas.width = image.width;
      canvas.height = image.height;
      const context = canvas.getContext("2d", { willReadFrequently: true });
      context.drawImage(image, 0, 0);
      const { width, height, columns, low, high } = data.maps;
      for (let tile = 0; tile < low.length; tile++) {
        const x = (tile % columns) * width, y = Math.floor(tile / columns) * height;
        const pixels = context.getImageData(x, y, width, height).data;
        const field = new Float32Array(this.size);
        for (let i = 0; i < this.size; i++) field[i] = low[tile] + (pixels[4 * i] / 255) * (high[tile] - low[tile]);
        this.fields.push(field);
      }
    },
    tile(rank) { return (state.all ? data.steps.length : state.step) * this.words + rank; },
    field(rank) { return this.fields[this.tile(rank)]; },
    range(rank) {
      if (!state.shared) return [data.maps.low[this.tile(rank)], data.maps.high[this.tile(rank)]];
      return this.common(state.all, data.special[rank]);
    },
    /* One scale for all words (special tokens only when one of them is shown) and, step by step, for all steps. */
    common(all, special) {
      const key = `${all} ${special}`;
      if (!this.scales.has(key)) {
        const first = all ? data.steps.length * this.words : 0, last = all ? data.maps.low.length : data.steps.length * this.words;
        const tiles = Array.from({ length: last - first }, (_, i) => first + i).filter((tile) => special || !data.special[tile % this.words]);
        this.scales.set(key, [Math.min(...tiles.map((tile) => data.maps.low[tile])), Math.max(...tiles.map((tile) => data.maps.high[tile]))]);
      }
      return this.scales.get(key);
    },
  };

  const colours = Array.from({ length: 256 }, (_, i) => [0, 2, 4].map((k) => parseInt(data.colours.substr(6 * i + k, 2), 16)));

  function paint(canvas, field, [low, high], smooth) {
    const { width: w, height: h } = data.maps;
    const image = new ImageData(canvas.width, canvas.height);
    const span = high > low ? high - low : 1;
    for (let y = 0; y < canvas.height; y++) {
      const fy = Math.min(Math.max(((y + 0.5) * h) / canvas.height - 0.5, 0), h - 1);
      for (let x = 0; x < canvas.width; x++) {
        const fx = Math.min(Math.max(((x + 0.5) * w) / canvas.width - 0.5, 0), w - 1);
        const value = smooth ? between(field, fx, fy, w, h) : field[Math.round(fy) * w + Math.round(fx)];
        const colour = colours[Math.round(255 * Math.min(Math.max((value - low) / span, 0), 1))];
        image.data.set([colour[0], colour[1], colour[2], 255], 4 * (y * canvas.width + x));
      }
    }
    canvas.getContext("2d").putImageData(image, 0, 0);
  }

  function between(field, x, y, w, h) {
    const x0 = Math.floor(x), y0 = Math.floor(y), x1 = Math.min(x0 + 1, w - 1), y1 = Math.min(y0 + 1, h - 1);
    const u = x - x0, v = y - y0;
    const top = field[y0 * w + x0] * (1 - u) + field[y0 * w + x1] * u;
    const below = field[y1 * w + x0] * (1 - u) + field[y1 * w + x1] * u;
    return top * (1 - v) + below * v;
  }

  function where(cell) {
    const { width: w, height: h } = data.maps;
    const vertical = ["top", "", "bottom"][Math.floor(((Math.floor(cell / w) + 0.5) / h) * 3)];
    const across = ["left", "", "right"][Math.floor((((cell % w) + 0.5) / w) * 3)];
    return `${vertical} ${across}`.trim() || "centre";
  }

  function drawWord() {
    const rank = shown();
    at("stage").classList.toggle("mapped", rank !== null);
    at("heat").style.opacity = rank === null ? 0 : at("opacity").value / 100;
    at("stage-caption").textContent = rank === null ? "The picture" : `“${data.labels[rank]}” over the picture in grey, ${when()}`;
    for (const button of document.querySelectorAll(".word")) {
      const own = Number(button.dataset.rank);
      button.classList.toggle("shown", own === rank);
      button.setAttribute("aria-pressed", String(own === state.pinned));
    }
    if (rank === null) return say("", "No word chosen");
    const field = maps.field(rank), range = maps.range(rank), peak = field.indexOf(Math.max(...field));
    paint(at("heat"), field, range, state.smooth);
    at("low").textContent = percent(range[0]);
    at("high").textContent = percent(range[1]);
    const mean = data.maps.mean[maps.tile(rank)], most = data.maps.high[maps.tile(rank)];
    const text = `“${data.labels[rank]}”, ${when()}: ${percent(mean)} of the attention on average, strongest at ${where(peak)} with ${percent(most)}.`;
    say(text, `Heat map of ${text}`);
  }

  let later = 0;
  function say(text, label) {
    at("heat").setAttribute("aria-label", label);
    clearTimeout(later);
    later = setTimeout(() => { at("say").textContent = text; }, 120);
  }

  function drawSmall() {
    for (const canvas of document.querySelectorAll("canvas.small")) {
      const rank = Number(canvas.dataset.rank);
      paint(canvas, maps.field(rank), maps.range(rank), false);
    }
  }

  function drawPlace() {
    const list = at("place");
    const { width: w, height: h } = data.maps;
    if (state.cell === null) {
      at("place-title").textContent = "Words at one place";
      list.replaceChildren(item("Point at the picture."));
      return;
    }
    at("place-title").textContent = `Words at row ${Math.floor(state.cell / w) + 1} of ${h}, column ${(state.cell % w) + 1} of ${w}`;
    const shares = data.labels.map((label, rank) => [label, maps.field(rank)[state.cell], data.special[rank]]);
    const best = shares.filter((row) => !row[2]).sort((a, b) => b[1] - a[1]).slice(0, 5);
    list.replaceChildren(...best.map(([label, share]) => row(label, share, best[0][1])));
  }

  function item(text) {
    const entry = document.createElement("li");
    entry.textContent = text;
    entry.style.display = "block";
    return entry;
  }

  function row(label, share, most) {
    const entry = document.createElement("li");
    const [name, number, box, bar] = ["span", "span", "span", "i"].map((tag) => document.createElement(tag));
    name.textContent = label;
    number.textContent = percent(share);
    bar.style.width = `${most > 0 ? (100 * share) / most : 0}%`;
    box.append(bar);
    entry.append(name, number, box);
    return entry;
  }

  let frames = null;
  function drawPredicted() {
    if (!frames) return;
    const { width, height, columns, steps } = data.predicted;
    const step = state.all ? steps[steps.length - 1] : data.steps[state.step];
    let nearest = 0;
    steps.forEach((other, i) => { if (Math.abs(other - step) < Math.abs(steps[nearest] - step)) nearest = i; });
    const canvas = at("predicted");
    canvas.getContext("2d").drawImage(frames, (nearest % columns) * width, Math.floor(nearest / columns) * height, width, height, 0, 0, width, height);
    const text = `What the model predicted at step ${steps[nearest]}`;
    at("predicted-caption").textContent = text;
    canvas.setAttribute("aria-label", text);
  }

  function draw() {
    if (maps) {
      const name = state.all ? "all steps" : `${data.steps[state.step]} (timestep ${data.times[state.step]})`;
      at("step-name").textContent = name;
      at("step").setAttribute("aria-valuetext", state.all ? "all steps" : `step ${data.steps[state.step]}`);
      at("all").checked = state.all;
      at("step").value = state.step;
      drawWord();
      drawSmall();
      drawPlace();
    }
    drawPredicted();
    document.dispatchEvent(new CustomEvent("moved", { detail: state.all ? null : data.steps[state.step] }));
  }

  function toStep(step) {
    state.all = false;
    state.step = step;
    draw();
  }

  function listen() {
    for (const button of document.querySelectorAll(".word")) {
      const rank = Number(button.dataset.rank);
      const preview = (value) => () => { state.preview = value; drawWord(); };
      button.addEventListener("pointerenter", preview(rank));
      button.addEventListener("pointerleave", preview(null));
      button.addEventListener("focus", preview(rank));
      button.addEventListener("blur", preview(null));
      button.addEventListener("click", () => {
        state.pinned = state.pinned === rank ? null : rank;
        state.preview = state.pinned;
        drawWord();
      });
    }
    document.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      state.pinned = state.preview = null;
      drawWord();
    });
    at("step").addEventListener("input", () => toStep(Number(at("step").value)));
    at("all").addEventListener("change", () => { state.all = at("all").checked; draw(); });
    for (const name of ["shared", "smooth"]) at(name).addEventListener("change", () => { state[name] = at(name).checked; draw(); });
    at("opacity").addEventListener("input", drawWord);
    listenPlay();
    listenPlace();
  }

  function listenPlay() {
    let timer = 0;
    const stop = () => { clearInterval(timer); timer = 0; at("play").textContent = "Play"; };
    at("play").addEventListener("click", () => {
      if (timer) return stop();
      toStep(state.all || state.step === LAST ? 0 : state.step);
      at("play").textContent = "Stop";
      timer = setInterval(() => (state.step < LAST && !state.all ? toStep(state.step + 1) : stop()), Math.max(80, 4000 / (LAST + 1)));
    });
  }

  function listenPlace() {
    const { width: w, height: h } = data.maps;
    const stage = at("stage");
    stage.addEventListener("pointermove", (event) => {
      const box = stage.getBoundingClientRect();
      const x = Math.floor(((event.clientX - box.left) / box.width) * w), y = Math.floor(((event.clientY - box.top) / box.height) * h);
      state.cell = Math.min(Math.max(y, 0), h - 1) * w + Math.min(Math.max(x, 0), w - 1);
      drawPlace();
    });
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    stage.addEventListener("keydown", (event) => {
      const move = moves[event.key];
      if (!move) return;
      event.preventDefault();
      const cell = state.cell ?? Math.floor(h / 2) * w + Math.floor(w / 2);
      const x = Math.min(Math.max((cell % w) + move[0], 0), w - 1), y = Math.min(Math.max(Math.floor(cell / w) + move[1], 0), h - 1);
      state.cell = y * w + x;
      drawPlace();
    });
  }

  async function start() {
    if (data.predicted) frames = await load(data.predicted.src);
    if (maps) {
      maps.decode(await load(data.maps.src));
      const ramp = at("ramp").getContext("2d");
      colours.forEach((colour, i) => { ramp.fillStyle = `rgb(${colour})`; ramp.fillRect(i, 0, 1, 1); });
      state.pinned = data.first;
      listen();
    }
    draw();
    document.documentElement.dataset.ready = "yes";
  }

  window.probe = { data, at, toStep };
  start();
})();
