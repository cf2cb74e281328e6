// A colour bar: the colours of a map, what numbers they stand for, and the unit.

import { paintBar } from "./colour_maps.js";
import { tickLabel, ticks } from "./figures.js";

const PX_PER_TICK = 32;
const FEWEST_TICKS = 3;
const MOST_TICKS = 10;

export class ColourBar {
  constructor(place) {
    this.colours = document.createElement("canvas");
    this.numbers = document.createElement("div");
    this.unit = document.createElement("div");
    this.numbers.className = "numbers";
    this.unit.className = "unit";
    place.replaceChildren(this.colours, this.numbers, this.unit);
  }

  /** Show a map from low to high. */
  show(map, low, high, unit, { wholeOnly = false } = {}) {
    paintBar(this.colours, map);
    const room = this.colours.clientHeight || 200;
    const most = Math.min(MOST_TICKS, Math.max(FEWEST_TICKS, Math.floor(room / PX_PER_TICK)));
    const { values, step } = ticks(low, high, most, wholeOnly);
    this.numbers.replaceChildren(...values.map((value) => {
      const number = document.createElement("span");
      number.textContent = tickLabel(value, step);
      number.style.top = `${(100 * (high - value)) / (high - low)}%`;
      return number;
    }));
    this.unit.textContent = unit;
  }
}
