// How far the run is: state, pairs, time, dose, and what is said of the image.

import { duration, figure, whole } from "./figures.js";
import { ENDED } from "./update.js";

/** Write down what an update's header says. */
export function showStatus(header) {
  const write = (id, text) => { document.getElementById(id).textContent = text; };
  const done = header.pairs_total > 0 ? header.pairs / header.pairs_total : 0;
  const percent = `${Math.floor(100 * done)} %`;
  const ended = ENDED.has(header.state);

  write("title", header.title || header.run);
  write("run", header.run);
  document.getElementById("simulated").hidden = !header.simulated;
  const state = document.getElementById("state");
  const stateSaid = header.stopping && !ended ? "stopping…" : header.state;
  if (state.textContent !== stateSaid) state.textContent = stateSaid;
  state.dataset.state = header.state;
  write("percent", header.pairs_total > 0 ? percent : "");
  const progress = document.getElementById("progress");
  progress.value = done;
  progress.textContent = percent;

  write("pairs", `${whole(header.pairs)} of ${whole(header.pairs_total)}`);
  write("blocks", blocksSaid(header));
  write("left", ended ? "–" : header.left_s === null ? "not known yet" : duration(header.left_s));
  write("elapsed", duration(header.elapsed_s));
  write("dose", doseSaid(header));
  write("exposures", whole(header.lit_exposures));
  write("quality", header.quality ?? "–");
  write("age", ended || header.image_age_s === null ? "–" : duration(header.image_age_s));
  write("sensing", header.sensing ?? "");
  writeWhere("cause", header.cause);
  const place = header.place;
  writeWhere("place", place && `image ${place.number + 1} of ${place.total}: ${place.name}`);

  const image = place ? `, image ${place.number + 1}/${place.total}` : "";
  const far = header.state === "running" || header.state === "stopped" ? ` ${percent}` : "";
  document.title = `${header.state}${far}${image} · ${header.title || header.run} · Hadascope`;
}

function writeWhere(id, text) {
  const element = document.getElementById(id);
  element.hidden = !text;
  element.textContent = text ?? "";
}

function blocksSaid({ blocks, blocks_total, repeated }) {
  const again = repeated > 0 ? `, ${repeated} repeated` : "";
  return `${whole(blocks)} of ${whole(blocks_total)}${again}`;
}

function doseSaid({ dose_mj, dose_limit_mj }) {
  if (dose_mj === null) return "not known (no power_mw)";
  return dose_limit_mj === null ? `${figure(dose_mj)} mJ` : `${figure(dose_mj)} of ${figure(dose_limit_mj)} mJ`;
}
