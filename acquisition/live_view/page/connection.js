// Follows the run's updates for as long as the page is open: asks for one after the other, tries again when they end.

import { fetchColourMaps } from "./colour_maps.js";
import { MalformedUpdateError, readUpdate } from "./update.js";

const SOON_MS = 1000;
const LATER_MS = 5000;
const SOON_TRIES = 10;
const SILENCE_MS = 5000; // the run answers at least once a second

/**
 * Follow for ever.
 *
 * listener: onColourMaps(maps), before any update; onUpdate(update), which has drawn it when it returns;
 * onMalformed(error); onLost(why, retryMs), whenever there is no connection.
 */
export async function follow(address, listener) {
  let tries = 0;
  for (;;) {
    let why;
    try {
      listener.onColourMaps(await fetchColourMaps(address("colour-maps")));
      const ended = await followSocket(address("live"), listener);
      why = ended.reason;
      if (ended.updates > 0) tries = 0;
    } catch (error) {
      why = error instanceof TypeError ? "" : error.message; // TypeError: nobody is there
    }
    const pause = tries < SOON_TRIES ? SOON_MS : LATER_MS;
    tries += 1;
    listener.onLost(why, pause);
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

/** One connection, until it ends: how many updates came, and why it ended, where somebody said so. */
function followSocket(url, listener) {
  return new Promise((resolve) => {
    const socket = new WebSocket(Object.assign(url, { protocol: url.protocol.replace("http", "ws") }));
    socket.binaryType = "arraybuffer";
    let updates = 0;
    let timer;
    const end = (reason) => {
      clearTimeout(timer);
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
      resolve({ updates, reason });
    };
    const ask = () => {
      clearTimeout(timer);
      timer = setTimeout(() => end(`nothing came for ${SILENCE_MS / 1000} s`), SILENCE_MS);
      socket.send("next");
    };
    timer = setTimeout(() => end("it did not answer"), SILENCE_MS);
    socket.onopen = ask;
    socket.onclose = (event) => end(event.reason);
    socket.onmessage = ({ data }) => {
      try {
        listener.onUpdate(readUpdate(data));
        updates += 1;
      } catch (error) {
        if (!(error instanceof MalformedUpdateError)) throw error;
        listener.onMalformed(error);
      } finally {
        if (socket.readyState === WebSocket.OPEN) ask();
      }
    };
  });
}
