// The contrast limits: two fields, two sliders, and "auto", which follows the image until somebody touches a limit.
//
// Image and uncertainty have limits of their own.

import { roundLength } from "./figures.js";

const LOWEST_PERCENT = 0.1;
const HIGHEST_PERCENT = 99.9;
const SLIDER_STEPS = 500;
const FIELD_DIGITS = 5;

export class Contrast {
  /** onChange: called when somebody changed a limit. */
  constructor(onChange) {
    this.onChange = onChange;
    this.kinds = new Map();
    this.auto = document.getElementById("auto");
    this.fields = { low: document.getElementById("low"), high: document.getElementById("high") };
    this.sliders = { low: document.getElementById("low-slider"), high: document.getElementById("high-slider") };
    this.auto.addEventListener("change", () => this.#setAuto());
    for (const end of ["low", "high"]) {
      this.fields[end].addEventListener("change", () => this.#set(end, this.fields[end]));
      this.fields[end].addEventListener("blur", () => this.now && this.#write(this.fields[end]));
      this.sliders[end].addEventListener("input", () => this.#set(end, this.sliders[end]));
    }
  }

  /** The limits {low, high} for numbers of a kind that are shown now. */
  follow(kind, values) {
    if (!this.kinds.has(kind)) this.kinds.set(kind, { auto: true });
    this.now = this.kinds.get(kind);
    const now = this.now;
    if (now.seen !== values) {
      const sorted = values.slice().sort();
      now.seen = values;
      now.range = [sorted[0], sorted[sorted.length - 1]];
      now.proposed = apart(percentile(sorted, LOWEST_PERCENT), percentile(sorted, HIGHEST_PERCENT));
    }
    if (now.auto) Object.assign(now, now.proposed);
    this.#write();
    return { low: now.low, high: now.high };
  }

  /** Forget every limit: the numbers are of another run. */
  forget() {
    this.kinds.clear();
  }

  #set(end, field) {
    const now = this.now;
    if (!now) return;
    const value = field.valueAsNumber;
    if (Number.isFinite(value)) {
      now.auto = false;
      now[end] = value;
      const least = (now.range[1] - now.range[0]) / SLIDER_STEPS || Math.abs(value) || 1;
      if (now.low >= now.high && end === "low") now.high = value + least;
      if (now.low >= now.high && end === "high") now.low = value - least;
    }
    this.#write(field);
    this.onChange();
  }

  #setAuto() {
    if (!this.now) return;
    this.now.auto = this.auto.checked;
    this.onChange();
  }

  /** Write the limits down, but not into a field that somebody is typing in. */
  #write(done = undefined) {
    const { auto, low, high, range } = this.now;
    const first = Math.min(range[0], low);
    const last = Math.max(range[1], high);
    this.auto.checked = auto;
    for (const [end, value] of [["low", low], ["high", high]]) {
      const [field, slider] = [this.fields[end], this.sliders[end]];
      if (field === done || document.activeElement !== field) {
        field.step = roundLength((last - first) / 100);
        field.value = Number(value.toPrecision(FIELD_DIGITS));
      }
      Object.assign(slider, { min: first, max: last, step: (last - first) / SLIDER_STEPS });
      slider.value = value;
    }
  }
}

/** The q-th percentile of sorted numbers, linear between them. */
export function percentile(sorted, q) {
  const place = (q / 100) * (sorted.length - 1);
  const below = Math.floor(place);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (place - below) * (sorted[above] - sorted[below]);
}

function apart(low, high) {
  return high > low ? { low, high } : { low, high: low + (Math.abs(low) || 1) };
}
