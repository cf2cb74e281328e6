// Numbers for people: figures, durations, round lengths, and the ticks of an axis.

const SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹";

/** A number with so many significant digits; powers of ten only where it is very large or very small. */
export function figure(value, digits = 4) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 1e-4 || size >= 1e7) return value.toExponential(digits - 1).replace("-", "−");
  const decimals = Math.max(0, digits - 1 - Math.floor(Math.log10(size)));
  return signed(value.toFixed(decimals));
}

/** A whole number, thousands set apart. */
export function whole(value) {
  return value.toLocaleString("en-GB", { maximumFractionDigits: 0 });
}

/** Seconds as people say them. */
export function duration(seconds) {
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  const s = Math.round(seconds);
  if (s < 3600) return `${Math.floor(s / 60)} min ${String(s % 60).padStart(2, "0")} s`;
  const minutes = Math.round(seconds / 60);
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

/** The largest of 1, 2 and 5 times a power of ten that is not above `longest` > 0. */
export function roundLength(longest) {
  const exponent = Math.floor(Math.log10(longest) + 1e-9);
  const power = (digit) => Number(`${digit}e${exponent}`);
  return [5, 2, 1].map(power).find((length) => length <= longest * (1 + 1e-9));
}

/** The smallest of 1, 2 and 5 times a power of ten that is not below `shortest` > 0. */
function roundStep(shortest) {
  const below = roundLength(shortest);
  if (below >= shortest * (1 - 1e-9)) return below;
  return roundLength(2.5 * below * (1 + 1e-6));
}

/** Round numbers from low to high, at most `most` of them, and their step: {values, step}. */
export function ticks(low, high, most, wholeOnly = false) {
  if (!(high > low)) return { values: [low], step: 1 };
  let step = roundStep((high - low) / Math.max(1, most - 1));
  if (wholeOnly) step = Math.max(1, step);
  const values = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) values.push(k * step);
  return { values, step };
}

/** A tick's number, with the decimals that its axis needs. */
export function tickLabel(value, step) {
  const decimals = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  if (decimals > 4 || Math.abs(value) >= 1e6) return value === 0 ? "0" : figure(value, 3);
  return signed((value === 0 ? 0 : value).toFixed(decimals));
}

/** The power of ten, a multiple of three, that an axis up to `largest` is best told in: {factor, said}. */
export function thousands(largest) {
  const exponent = largest > 0 ? 3 * Math.floor(Math.log10(largest) / 3) : 0;
  if (exponent === 0 || (largest >= 1e3 && largest < 1e4)) return { factor: 1, said: "" };
  const digits = [...String(Math.abs(exponent))].map((digit) => SUPERSCRIPTS[digit]).join("");
  return { factor: 10 ** exponent, said: `10${exponent < 0 ? "⁻" : ""}${digits} ` };
}

function signed(digits) {
  return digits.replace("-", "−");
}
