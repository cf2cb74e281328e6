// Colour maps, and numbers painted with them.

const LEVELS = 256;

/** Something the run's server did not want to give; the message is what it said. */
export class RefusedError extends Error {}

/**
 * The colour maps by name, each 256 × 3 bytes of red, green and blue.
 * @throws {RefusedError} where the server says no, and TypeError where there is none
 */
export async function fetchColourMaps(address) {
  const reply = await fetch(address, { cache: "no-store" });
  if (!reply.ok) throw new RefusedError((await reply.text()) || `refused: ${reply.status}`);
  const maps = {};
  for (const [name, encoded] of Object.entries(await reply.json())) {
    maps[name] = Uint8Array.from(atob(encoded), (character) => character.charCodeAt(0));
  }
  return maps;
}

/**
 * Paint numbers on a canvas, one pixel each: level ⌊256 (value − low) / (high − low)⌋ of the map, held within it.
 * Values equal to `blank` are left black.
 */
export function paint(canvas, values, [rows, columns], low, high, map, blank = undefined) {
  if (canvas.width !== columns || canvas.height !== rows) Object.assign(canvas, { width: columns, height: rows });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const picture = context.createImageData(columns, rows);
  const pixels = picture.data;
  const scale = LEVELS / (high - low);
  for (let i = 0; i < values.length; i++) {
    pixels[4 * i + 3] = 255;
    if (values[i] === blank) continue;
    const level = 3 * Math.min(LEVELS - 1, Math.max(0, Math.floor((values[i] - low) * scale)));
    pixels[4 * i] = map[level];
    pixels[4 * i + 1] = map[level + 1];
    pixels[4 * i + 2] = map[level + 2];
  }
  context.putImageData(picture, 0, 0);
}

/** All colours of a map on a canvas, the highest on top. */
export function paintBar(canvas, map) {
  const levels = Float32Array.from({ length: LEVELS }, (_, row) => LEVELS - 1 - row);
  paint(canvas, levels, [LEVELS, 1], 0, LEVELS, map);
}
