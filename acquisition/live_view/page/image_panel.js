// The image or its uncertainty: painted, with a colour bar, a scale bar, and the value of the pixel under the pointer.

import { ColourBar } from "./colour_bar.js";
import { paint } from "./colour_maps.js";
import { Contrast } from "./contrast.js";
import { figure, roundLength } from "./figures.js";

const LARGEST_SCALE_BAR = 0.3; // of the image's side
const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class ImagePanel {
  constructor() {
    this.canvas = document.getElementById("image-canvas");
    this.shown = document.getElementById("shown");
    this.colours = document.getElementById("colour-map");
    this.cursor = document.getElementById("cursor");
    this.readout = document.getElementById("pixel");
    this.bar = new ColourBar(document.getElementById("colour-bar"));
    this.contrast = new Contrast(() => this.draw());
    this.arrays = new Map();
    this.pointed = null;
    this.pxUm = null;
    this.maps = null;
    for (const choice of [this.shown, this.colours]) choice.addEventListener("change", () => this.draw());
    this.canvas.addEventListener("pointermove", (event) => this.#point(event));
    this.canvas.addEventListener("pointerleave", () => this.#choose(null));
    this.canvas.addEventListener("blur", () => this.#choose(null));
    this.canvas.addEventListener("keydown", (event) => this.#step(event));
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  /** Show these arrays: "image" and, where there is one, "uncertainty". pxUm: µm per pixel, or null. */
  show(arrays, pxUm) {
    this.arrays = arrays;
    this.pxUm = pxUm;
    const uncertain = arrays.has("uncertainty");
    this.shown.querySelector("[value=uncertainty]").disabled = !uncertain;
    if (!uncertain) this.shown.value = "image";
    document.getElementById("no-image").hidden = arrays.has("image");
    this.draw();
  }

  /** The numbers to come are of another run: contrast follows them again. */
  forget() {
    this.contrast.forget();
  }

  draw() {
    const kind = this.shown.value;
    const array = this.arrays.get(kind);
    if (!this.maps) return;
    if (!array) {
      this.#clear();
      return;
    }
    const { low, high } = this.contrast.follow(kind, array.values);
    const map = this.maps[this.colours.value];
    paint(this.canvas, array.values, array.shape, low, high, map);
    this.bar.show(map, low, high, kind === "image" ? array.unit : `± ${array.unit}, 90 % interval`);
    this.#drawScaleBar(array.shape[1]);
    this.#read();
  }

  #clear() {
    Object.assign(this.canvas, { width: 1, height: 1 });
    document.getElementById("scale-bar").hidden = true;
    this.#read();
  }

  #drawScaleBar(columns) {
    const bar = document.getElementById("scale-bar");
    const [perPx, unit] = this.pxUm === null ? [1, "px"] : [this.pxUm, "µm"];
    const length = roundLength(LARGEST_SCALE_BAR * columns * perPx);
    bar.style.width = `${(100 * length) / (perPx * columns)}%`;
    bar.firstElementChild.textContent = `${length} ${unit}`;
    Object.assign(bar.dataset, { length, unit });
    bar.hidden = false;
  }

  #point(event) {
    const array = this.arrays.get(this.shown.value);
    if (!array) return;
    const box = this.canvas.getBoundingClientRect();
    const place = (at, begin, extent, count) =>
      Math.min(count - 1, Math.max(0, Math.floor(((at - begin) / extent) * count)));
    const [rows, columns] = array.shape;
    this.#choose([
      place(event.clientX, box.left, box.width, columns),
      place(event.clientY, box.top, box.height, rows),
    ]);
  }

  #step(event) {
    const step = STEPS[event.key];
    const array = this.arrays.get(this.shown.value);
    if (!step || !array) return;
    event.preventDefault();
    const [rows, columns] = array.shape;
    const far = event.shiftKey ? 10 : 1;
    const [x, y] = this.pointed ?? [Math.floor(columns / 2), Math.floor(rows / 2)];
    this.#choose([
      Math.min(columns - 1, Math.max(0, x + far * step[0])),
      Math.min(rows - 1, Math.max(0, y + far * step[1])),
    ]);
  }

  #choose(pointed) {
    this.pointed = pointed;
    this.#read();
  }

  #read() {
    const image = this.arrays.get("image");
    const is = image && this.pointed && this.pointed[1] < image.shape[0] && this.pointed[0] < image.shape[1];
    this.cursor.hidden = !is;
    if (!is) {
      this.readout.textContent = image ? "Point at a pixel for its value (or Tab to the image, then arrow keys)" : "";
      return;
    }
    const [rows, columns] = image.shape;
    const [x, y] = this.pointed;
    const place = y * columns + x;
    const value = image.values[place];
    const uncertainty = this.arrays.get("uncertainty")?.values[place];
    const um = this.pxUm === null ? "" : ` (${figure(x * this.pxUm)} µm, ${figure(y * this.pxUm)} µm)`;
    const interval = uncertainty === undefined ? "" : ` ± ${figure(uncertainty, 3)}`;
    const how = uncertainty === undefined ? "" : " (90 % interval)";
    this.readout.textContent = `x ${x}, y ${y}${um}: ${figure(value)}${interval} ${image.unit}${how}`;
    Object.assign(this.readout.dataset, { x, y, value, uncertainty: uncertainty ?? "" });
    const style = this.cursor.style;
    style.left = `${(100 * x) / columns}%`;
    style.top = `${(100 * y) / rows}%`;
    style.width = `${100 / columns}%`;
    style.height = `${100 / rows}%`;
  }
}
