// Pair sums over time: their mean and its standard error. Bleaching and drift are seen here.

import { figure, thousands, tickLabel, ticks } from "./figures.js";

const SVG = "http://www.w3.org/2000/svg";
const MARGIN = { left: 58, right: 10, top: 6, bottom: 34 };
const PX_PER_TICK = { x: 50, y: 24 };
const LEAST_SPAN = 0.01; // of the mean: what is as good as constant looks it
const COMPARED = 0.1; // of the points at each end

export class Chart {
  constructor() {
    this.place = document.getElementById("chart");
    this.drift = document.getElementById("drift");
    this.points = null;
    new ResizeObserver(() => this.draw()).observe(this.place);
  }

  /** Show points of {time in s, mean, standard error}: an array of shape [K, 3], or none yet. */
  show(array) {
    this.points = array ?? null;
    this.draw();
  }

  draw() {
    const width = this.place.clientWidth;
    const height = this.place.clientHeight;
    const points = rowsOf(this.points);
    this.place.dataset.points = points.length;
    if (!points.length || width < 100 || height < 60) {
      this.place.textContent = points.length ? "" : "no readings yet";
      this.drift.textContent = "";
      return;
    }
    const span = spanOf(points);
    const [begin, end] = [points[0].time, points.at(-1).time];
    const x = scale(begin, Math.max(end, begin + 1e-3), MARGIN.left, width - MARGIN.right);
    const y = scale(span.low, span.high, height - MARGIN.bottom, MARGIN.top);
    const unit = thousands(span.high);
    const svg = made("svg", { viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true" });
    drawTimes(svg, x, y, width, height);
    drawSums(svg, x, y, unit, this.points.unit);
    const [upper, lower] = [1, -1].map((sign) => points.map((at) => [x(at.time), y(at.mean + sign * at.error)]));
    svg.append(
      made("polygon", { class: "band", points: [...upper, ...lower.reverse()].map(said).join(" ") }),
      made("polyline", { class: "mean", points: points.map((at) => said([x(at.time), y(at.mean)])).join(" ") }),
    );
    if (points.length === 1) svg.append(made("circle", { class: "dot", cx: x(begin), cy: y(points[0].mean), r: 2 }));
    this.place.replaceChildren(svg);
    this.#sayDrift(points);
  }

  #sayDrift(points) {
    const change = points.length > 1 ? driftOf(points) : null;
    this.drift.textContent =
      change === null ? "" : `${change < 0 ? "−" : "+"}${figure(Math.abs(100 * change), 2)} % since the start`;
    this.place.setAttribute("aria-label", `Pair sums over time, ${points.length} points. ${this.drift.textContent}`);
  }
}

function rowsOf(array) {
  if (!array) return [];
  const { values } = array;
  const at = (k) => ({ time: values[3 * k], mean: values[3 * k + 1], error: values[3 * k + 2] });
  return Array.from({ length: array.shape[0] }, (_, k) => at(k));
}

/** What the vertical axis shows: every mean and its error, and some room. */
function spanOf(points) {
  const low = Math.min(...points.map((at) => at.mean - at.error));
  const high = Math.max(...points.map((at) => at.mean + at.error));
  const middle = (low + high) / 2;
  const half = Math.max(0.55 * (high - low), (LEAST_SPAN / 2) * Math.abs(middle)) || 1;
  return { low: middle - half, high: middle + half };
}

/** The means of the last tenth of the points against those of the first, as a fraction; null without light. */
function driftOf(points) {
  const few = Math.max(1, Math.floor(COMPARED * points.length));
  const mean = (some) => some.reduce((sum, at) => sum + at.mean, 0) / some.length;
  const first = mean(points.slice(0, few));
  return first > 0 ? mean(points.slice(-few)) / first - 1 : null;
}

function drawTimes(svg, x, y, width, height) {
  const { values, step } = ticks(x.low, x.high, Math.max(2, Math.floor((width - MARGIN.left) / PX_PER_TICK.x)));
  for (const value of values) {
    svg.append(
      made("line", { class: "grid", x1: x(value), x2: x(value), y1: y(y.low), y2: y(y.high) }),
      label(x(value), height - MARGIN.bottom + 14, "middle", tickLabel(value, step)),
    );
  }
  svg.append(label((MARGIN.left + width - MARGIN.right) / 2, height - 4, "middle", "time (s)", "name"));
}

function drawSums(svg, x, y, { factor, said: power }, unit) {
  const room = y(y.low) - y(y.high);
  const { values, step } = ticks(y.low / factor, y.high / factor, Math.max(3, Math.floor(room / PX_PER_TICK.y)));
  for (const value of values) {
    svg.append(
      made("line", { class: "grid", x1: x(x.low), x2: x(x.high), y1: y(value * factor), y2: y(value * factor) }),
      label(MARGIN.left - 6, y(value * factor) + 4, "end", tickLabel(value, step)),
    );
  }
  const name = label(0, 0, "middle", `pair sum (${power}${unit})`, "name");
  name.setAttribute("transform", `translate(11 ${MARGIN.top + room / 2}) rotate(-90)`);
  svg.append(name);
}

function scale(low, high, from, to) {
  const place = (value) => from + ((value - low) / (high - low)) * (to - from);
  return Object.assign(place, { low, high });
}

function said([x, y]) {
  return `${x.toFixed(1)},${y.toFixed(1)}`;
}

function label(x, y, anchor, text, kind = "tick") {
  const element = made("text", { x, y, "text-anchor": anchor, class: kind });
  element.textContent = text;
  return element;
}

function made(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}
