// A picture, the words of its prompt and their maps. Foreign text is only ever set as textContent.
const views = new WeakMap();
const SIDE = 256; // pixels of the longer side of a drawn map

export default function (component) {
  const { parentElement: root, data, setStateValue } = component;
  if (!views.has(root)) views.set(root, new View(root));
  views.get(root).update(data, setStateValue);
}

class View {
  constructor(root) {
    this.root = root;
    this.at = (id) => root.querySelector(`#${id}`);
    this.word = -1; // kept by a click
    this.peek = -1; // under the pointer or the focus
    this.cell = null; // kept by a click: [row, column]
    this.glance = null;
    const frame = this.at("frame");
    frame.onpointermove = (event) => this.look(this.under(event));
    frame.onpointerleave = () => this.look(null);
    frame.onclick = (event) => this.keep(this.under(event));
    frame.onkeydown = (event) => this.key(event);
    frame.onblur = () => this.look(null);
  }

  update(data, report) {
    const first = !this.data;
    if (!first && this.data.trace !== data.trace) Object.assign(this, { word: -1, peek: -1, cell: null, glance: null });
    if (first || this.data.trace !== data.trace) this.word = data.words.findIndex((word) => word.label === data.chosen);
    if (data.follows && this.data?.chosen !== data.chosen) this.word = data.words.findIndex((word) => word.label === data.chosen);
    this.data = data;
    this.amount = data.units === null ? percent : plain;
    this.report = report;
    this.maps = floats(data.maps);
    this.colours = bytes(data.colours);
    const [rows, columns] = data.grid;
    if (this.cell && (this.cell[0] >= rows || this.cell[1] >= columns)) this.cell = null;
    this.glance = null;
    this.at("picture").src = data.picture;
    this.at("picture").alt = data.alt;
    this.at("frame").setAttribute("aria-label", `${data.alt}, ${rows} by ${columns} cells`);
    this.at("ramp").style.background = `linear-gradient(to right, ${ramp(this.colours).join(", ")})`;
    this.buttons();
    this.draw();
  }

  buttons() {
    const focused = this.root.activeElement?.dataset.word;
    const pieces = this.data.pieces.map(({ text, rank }) => (rank === null ? document.createTextNode(text) : this.button(text, rank)));
    this.at("prompt").replaceChildren(...pieces);
    const special = this.data.words.flatMap((word, rank) => (word.special ? [this.button(word.label, rank)] : []));
    const spoken = new Set(this.data.pieces.map((piece) => piece.rank));
    const loose = this.data.words.flatMap((word, rank) => (word.special || spoken.has(rank) ? [] : [this.button(word.label, rank)]));
    const lead = document.createTextNode(special.length ? "Around the prompt:" : "");
    this.at("specials").replaceChildren(lead, ...loose, ...special);
    if (focused !== undefined) this.at("prompt").querySelector(`[data-word="${Number(focused)}"]`)?.focus();
  }

  button(text, rank) {
    const made = element("button", { type: "button", textContent: text });
    made.dataset.word = rank;
    made.onpointerenter = () => this.show(rank);
    made.onpointerleave = () => this.show(-1);
    made.onfocus = () => this.show(rank);
    made.onblur = () => this.show(-1);
    made.onclick = () => this.choose(rank);
    return made;
  }

  show(rank) {
    this.peek = rank;
    this.draw();
  }

  choose(rank) {
    this.word = this.word === rank ? -1 : rank;
    this.report("word", this.word < 0 ? "" : this.data.words[this.word].label);
    this.draw();
  }

  look(cell) {
    this.glance = cell;
    this.draw();
  }

  keep(cell) {
    const same = this.cell && cell && this.cell[0] === cell[0] && this.cell[1] === cell[1];
    this.cell = same ? null : cell;
    this.draw();
  }

  under(event) {
    const box = this.at("frame").getBoundingClientRect();
    const [rows, columns] = this.data.grid;
    const row = Math.floor(((event.clientY - box.top) / box.height) * rows);
    const column = Math.floor(((event.clientX - box.left) / box.width) * columns);
    return [clamp(row, rows), clamp(column, columns)];
  }

  key(event) {
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    const [rows, columns] = this.data.grid;
    const now = this.glance ?? this.cell ?? [Math.floor(rows / 2), Math.floor(columns / 2)];
    if (event.key in moves) this.look([clamp(now[0] + moves[event.key][0], rows), clamp(now[1] + moves[event.key][1], columns)]);
    else if (event.key === "Enter" || event.key === " ") this.keep(now);
    else if (event.key === "Escape") [this.cell, this.glance] = [null, null];
    else return;
    event.preventDefault();
    this.draw();
    this.at("live").textContent = this.spoken();
  }

  value(rank, [row, column]) {
    const [rows, columns] = this.data.grid;
    return this.maps[(rank * rows + row) * columns + column];
  }

  draw() {
    if (!this.data) return;
    const rank = this.peek >= 0 ? this.peek : this.word;
    for (const button of this.at("prompt").parentElement.querySelectorAll("button[data-word]")) {
      const own = Number(button.dataset.word);
      button.setAttribute("aria-pressed", String(own === this.word));
      button.classList.toggle("shown", own === rank);
    }
    this.map(rank);
    this.mark();
    this.rank();
  }

  map(rank) {
    const word = this.data.words[rank];
    this.at("frame").classList.toggle("mapped", Boolean(word));
    this.at("legend").classList.toggle("off", !word);
    this.at("subject").textContent = word ? `${word.label}: strongest ${word.where}` : "";
    if (!word) return;
    this.at("low").textContent = this.amount(word.low);
    this.at("high").textContent = this.amount(word.high);
    this.at("units").textContent = this.data.units ?? "of a cell's attention";
    paint(this.at("map"), this.plane(rank), this.data.grid, { ...word, colours: this.colours });
  }

  plane(rank) {
    const size = this.data.grid[0] * this.data.grid[1];
    return this.maps.subarray(rank * size, (rank + 1) * size);
  }

  mark() {
    const cell = this.glance ?? this.cell;
    const [rows, columns] = this.data.grid;
    this.at("cell").hidden = !cell;
    if (!cell) return;
    const place = { top: cell[0] / rows, left: cell[1] / columns, height: 1 / rows, width: 1 / columns };
    for (const [name, share] of Object.entries(place)) this.at("cell").style[name] = `${100 * share}%`;
  }

  rank() {
    const cell = this.glance ?? this.cell;
    const shares = this.data.words.map((word, rank) => ({ ...word, rank, share: cell ? this.value(rank, cell) : word.mean }));
    const words = shares.filter((word) => !word.special).sort((a, b) => b.share - a.share);
    const most = Math.max(...words.map((word) => word.share), 1e-12);
    this.at("heading").textContent = cell ? `Words at row ${cell[0] + 1}, column ${cell[1] + 1}` : "Words, over the whole picture";
    const focused = this.root.activeElement?.dataset.row;
    this.at("ranking").replaceChildren(...words.map((word) => this.row(word, most)));
    if (focused !== undefined) this.at("ranking").querySelector(`[data-row="${Number(focused)}"]`)?.focus();
    const rest = shares.filter((word) => word.special).reduce((sum, word) => sum + word.share, 0);
    this.at("rest").textContent = shares.some((word) => word.special) ? `Start, end and padding: ${percent(rest)}` : "";
  }

  row(word, most) {
    const button = element("button", { type: "button" });
    const fill = element("i", {});
    fill.style.width = `${Math.max(0, (100 * word.share) / most)}%`;
    const bar = element("span", { className: "bar" });
    bar.append(fill);
    const share = element("span", { className: "share", textContent: this.amount(word.share) });
    button.append(element("span", { textContent: word.label }), bar, share);
    button.dataset.row = word.rank;
    button.onclick = () => this.choose(word.rank);
    const item = element("li", {});
    item.append(button);
    return item;
  }

  spoken() {
    const rows = [...this.at("ranking").querySelectorAll("button")].slice(0, 3).map((row) => `${row.firstChild.textContent} ${row.lastChild.textContent}`);
    return `${this.at("heading").textContent}: ${rows.join(", ")}`;
  }
}

function paint(canvas, plane, [rows, columns], { low, high, colours }) {
  const scale = SIDE / Math.max(rows, columns);
  [canvas.width, canvas.height] = [Math.round(columns * scale), Math.round(rows * scale)];
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  for (let y = 0, i = 0; y < canvas.height; y++) {
    for (let x = 0; x < canvas.width; x++, i += 4) {
      const value = between(plane, rows, columns, [(y + 0.5) / scale - 0.5, (x + 0.5) / scale - 0.5]);
      const level = 3 * Math.round(255 * Math.min(1, Math.max(0, high > low ? (value - low) / (high - low) : 0)));
      image.data.set([colours[level], colours[level + 1], colours[level + 2], 255], i);
    }
  }
  context.putImageData(image, 0, 0);
}

// Bilinear, with the edge repeated.
function between(plane, rows, columns, [y, x]) {
  const [top, left] = [Math.floor(y), Math.floor(x)];
  const at = (row, column) => plane[clamp(row, rows) * columns + clamp(column, columns)];
  const upper = at(top, left) * (1 - x + left) + at(top, left + 1) * (x - left);
  const lower = at(top + 1, left) * (1 - x + left) + at(top + 1, left + 1) * (x - left);
  return upper * (1 - y + top) + lower * (y - top);
}

const clamp = (value, count) => Math.min(count - 1, Math.max(0, value));
const plain = (value) => String(Number(value.toPrecision(3)));
const percent = (share) => `${Number((100 * share).toPrecision(3))} %`;
const element = (tag, properties) => Object.assign(document.createElement(tag), properties);
const floats = (text) => new Float32Array(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);
const bytes = (hex) => Uint8Array.from(hex.match(/../g), (pair) => parseInt(pair, 16));
const ramp = (colours) => [0, 32, 64, 96, 128, 160, 192, 224, 255].map((i) => `rgb(${colours.slice(3 * i, 3 * i + 3).join(" ")})`);
