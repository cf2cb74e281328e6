// The live view's page: what came of the run so far, and who shows it.

import { Chart } from "./chart.js";
import { CoefficientMap } from "./coefficient_map.js";
import { follow } from "./connection.js";
import { ImagePanel } from "./image_panel.js";
import { showStatus } from "./status_panel.js";
import { StopButton } from "./stop_button.js";
import { ENDED } from "./update.js";
import { showWarnings } from "./warnings_list.js";

const image = new ImagePanel();
const chart = new Chart();
const coefficients = new CoefficientMap();
const stop = new StopButton(addressOf("stop"), showError);
const errors = document.getElementById("error");
const arrays = new Map();
let newest = null;

/** An address of the server that this page came from, with the token that the page's own link has. */
function addressOf(name) {
  const address = new URL(name, new URL(".", location.href));
  const token = new URLSearchParams(location.search).get("token");
  if (token !== null) address.searchParams.set("token", token);
  return address;
}

function takeColourMaps(maps) {
  for (const panel of [image, coefficients]) {
    panel.maps = maps;
    panel.draw();
  }
}

function takeUpdate({ header, arrays: news }) {
  const anew = newest === null || isOfAnother(header);
  if (anew) {
    arrays.clear();
    image.forget();
  } else if (newest && header.place?.number !== newest.place?.number) {
    for (const name of ["counts", "pair_sums"]) arrays.delete(name);
  }
  for (const [name, array] of news) arrays.set(name, array);
  newest = header;
  if (anew || news.has("image") || news.has("uncertainty")) image.show(arrays, header.px_um);
  chart.show(arrays.get("pair_sums"));
  coefficients.show(arrays.get("counts"));
  showStatus(header);
  showWarnings(header.warnings);
  showConnection("connected", "connected");
  if (errors.dataset.about === "connection") errors.hidden = true;
  document.body.dataset.version = header.version;
}

/** Whether a header is of another run than what is shown, or of the same one begun anew. */
function isOfAnother(header) {
  if (header.run !== newest.run || header.side !== newest.side) return true;
  const samePlace = header.place?.number === newest.place?.number;
  return samePlace && header.state !== "gone" && header.pairs < newest.pairs;
}

function takeLoss(why, retryMs) {
  const ended = newest !== null && ENDED.has(newest.state);
  const often = retryMs > 1000 ? " every 5 s" : "";
  if (ended) showConnection("ended", `run ended, trying for another${often}…`, why);
  else showConnection("lost", `connection lost, trying again${often}…`, why);
  if (why && !ended) showError(`No connection: ${why}`, "connection");
}

function showConnection(connection, text, why = "") {
  const badge = document.getElementById("connection");
  if (badge.textContent !== text) badge.textContent = text;
  badge.title = why;
  badge.dataset.connection = connection;
  document.body.dataset.connection = connection;
  stop.show(newest, connection === "connected");
}

function showError(text, about = "page") {
  document.getElementById("error-text").textContent = `${new Date().toLocaleTimeString("en-GB")}  ${text}`;
  errors.dataset.about = about;
  errors.hidden = false;
}

document.getElementById("error-dismiss").addEventListener("click", () => { errors.hidden = true; });
window.addEventListener("error", (event) => showError(`The page failed: ${event.message}`));
window.addEventListener("unhandledrejection", (event) => showError(`The page failed: ${event.reason}`));

follow(addressOf, {
  onColourMaps: takeColourMaps,
  onUpdate: takeUpdate,
  onMalformed: (error) => showError(`An update of the run could not be read: ${error.message}`),
  onLost: takeLoss,
});
