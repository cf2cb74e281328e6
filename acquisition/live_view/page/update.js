// Reads an update of the live view: a header in JSON and arrays of numbers in one binary message.
//
// 4 bytes: length L of the header, little-endian; L bytes: the header, filled up with blanks so that 4 + L is a
// multiple of 8; the data, in which every array begins at a multiple of 8. The header's "arrays" say what lies where.

const TYPES = { float32: Float32Array, float64: Float64Array, uint16: Uint16Array, uint32: Uint32Array };
const NUMBERS = [
  "version", "side", "pairs", "pairs_total", "blocks", "blocks_total", "repeated", "elapsed_s", "lit_exposures",
];

export const ENDED = new Set(["finished", "stopped", "failed", "interrupted", "gone"]);
const STATES = new Set(["preparing", "running", "concluding", ...ENDED]);

/** An update that is not as it is agreed to be. */
export class MalformedUpdateError extends Error {}

/**
 * Read one message.
 * @param {ArrayBuffer|string} message
 * @returns {{header: object, arrays: Map<string, {values: TypedArray, shape: number[], unit: string}>}}
 * @throws {MalformedUpdateError}
 */
export function readUpdate(message) {
  if (!(message instanceof ArrayBuffer)) throw new MalformedUpdateError("it is text, and updates are binary");
  if (message.byteLength < 8) throw new MalformedUpdateError(`it has ${message.byteLength} bytes`);
  const start = 4 + new DataView(message).getUint32(0, true);
  if (start > message.byteLength || start % 8 !== 0) {
    throw new MalformedUpdateError(`its header is said to end at byte ${start} of ${message.byteLength}`);
  }
  const header = readHeader(new Uint8Array(message, 4, start - 4));
  const arrays = new Map();
  for (const told of header.arrays) arrays.set(told.name, readArray(message, start, told));
  return { header, arrays };
}

function readHeader(bytes) {
  let header;
  try {
    header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    throw new MalformedUpdateError(`its header cannot be read: ${error.message}`);
  }
  const wrong = NUMBERS.filter((name) => !Number.isFinite(header?.[name]));
  if (wrong.length) throw new MalformedUpdateError(`its header has no number for ${wrong.join(", ")}`);
  if (!STATES.has(header.state)) throw new MalformedUpdateError(`the run's state is said to be ${header.state}`);
  for (const name of ["arrays", "warnings"]) {
    if (!Array.isArray(header[name])) throw new MalformedUpdateError(`its header has no list of ${name}`);
  }
  return header;
}

function readArray(message, start, { name, dtype, shape, offset, unit }) {
  const Type = TYPES[dtype];
  if (!Type) throw new MalformedUpdateError(`the numbers of ${name} are of type ${dtype}`);
  const length = Array.isArray(shape) ? shape.reduce((product, each) => product * each, 1) : NaN;
  const begin = start + offset;
  const end = begin + length * Type.BYTES_PER_ELEMENT;
  if (!(begin % 8 === 0 && begin >= start && end <= message.byteLength)) {
    throw new MalformedUpdateError(`${name} is said to lie at byte ${begin} to ${end} of ${message.byteLength}`);
  }
  const values = new Type(message, begin, length);
  if (!values.every(Number.isFinite)) throw new MalformedUpdateError(`${name} holds what is not a number`);
  return { values, shape, unit };
}
