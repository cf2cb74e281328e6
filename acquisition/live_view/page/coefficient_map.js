// The map of measured coefficients: pairs so far of each, in sequency order.

import { ColourBar } from "./colour_bar.js";
import { paint } from "./colour_maps.js";
import { whole } from "./figures.js";

export class CoefficientMap {
  constructor() {
    this.canvas = document.getElementById("coefficients");
    this.measured = document.getElementById("measured");
    this.lasts = this.canvas.parentElement.querySelectorAll(".last");
    this.bar = new ColourBar(document.getElementById("coefficients-bar"));
    this.array = null;
    this.maps = null;
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  /** Show counts, one per vertical and horizontal sequency. */
  show(array) {
    this.array = array ?? null;
    this.draw();
  }

  draw() {
    if (!this.maps) return;
    const { values, shape } = this.array ?? { values: new Uint16Array(1), shape: [1, 1] };
    const most = Math.max(1, values.reduce((most, count) => Math.max(most, count), 0));
    const measured = values.reduce((sum, count) => sum + (count > 0), 0);
    paint(this.canvas, values, shape, 0, most, this.maps.viridis, 0);
    this.bar.show(this.maps.viridis, 0, most, "pairs", { wholeOnly: true });
    this.measured.textContent = this.array ? `${whole(measured)} of ${whole(values.length)}` : "";
    this.canvas.setAttribute("aria-label", `Pairs per coefficient. ${this.measured.textContent} measured`);
    for (const [axis, last] of this.lasts.entries()) last.textContent = this.array ? shape[axis] - 1 : "";
  }
}
