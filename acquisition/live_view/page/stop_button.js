// Stop: the first press asks, a second one within five seconds ends the run.

import { ENDED } from "./update.js";

const ASKED_MS = 5000;
const TOO_SOON_MS = 300; // a double click is one press
const NEITHER_MS = 10000; // for a run that was told to stop to say that it does

export class StopButton {
  /** address: where to ask the run to end; onFailure: called with a sentence where it could not be asked. */
  constructor(address, onFailure) {
    this.address = address;
    this.onFailure = onFailure;
    this.button = document.getElementById("stop");
    this.header = null;
    this.connected = false;
    this.askedAt = null;
    this.told = false;
    this.button.addEventListener("click", () => this.#press());
    this.button.addEventListener("keydown", (event) => {
      if (event.repeat) event.preventDefault(); // a key that is held is one press
    });
  }

  /** What the run says of itself now, and whether it can be reached. */
  show(header, connected) {
    this.header = header;
    this.connected = connected;
    this.#write();
  }

  #press() {
    const now = performance.now();
    if (this.askedAt === null) {
      this.askedAt = now;
      this.timer = setTimeout(() => this.#forget(), ASKED_MS);
      setTimeout(() => this.#write(), TOO_SOON_MS);
    } else if (now - this.askedAt >= TOO_SOON_MS) {
      this.#forget();
      this.#stop();
    }
    this.#write();
  }

  async #stop() {
    this.told = true;
    this.#write();
    try {
      const reply = await fetch(this.address, { method: "POST" });
      if (!reply.ok) throw new Error(await reasonOf(reply));
      setTimeout(() => this.#untell(), NEITHER_MS);
    } catch (error) {
      this.#untell();
      this.onFailure(`The run could not be stopped from here: ${error.message}`);
    }
  }

  #forget() {
    clearTimeout(this.timer);
    this.askedAt = null;
    this.#write();
  }

  #untell() {
    this.told = false;
    this.#write();
  }

  #write() {
    const { header, button } = this;
    const ended = header !== null && ENDED.has(header.state);
    const stopping = !ended && (this.told || header?.stopping);
    const asked = this.askedAt !== null;
    button.disabled = header === null || !this.connected || !header.can_stop || ended || Boolean(stopping);
    button.textContent = stopping ? "stopping…" : asked ? "Press again to stop" : "Stop";
    button.dataset.asked = asked && performance.now() - this.askedAt >= TOO_SOON_MS;
  }
}

async function reasonOf(reply) {
  const text = await reply.text();
  try {
    return JSON.parse(text).why ?? text;
  } catch {
    return text || String(reply.status);
  }
}
