/** The live protocol, version 1: one stream over one WebSocket. */

import { PersonError } from "./errors.js";
import { whyNoSocket } from "./server.js";

const KINDS = { hello: 0, audio: 1, event: 2, error: 3 };

export class LiveSocket {
  /**
   * Says `hello` as soon as the socket is open; what is sent before is kept until then.
   *
   * `on` has functions: `hello(content)`, `event(content)`, `audio(Float32Array)`, and `fail(error)`, which is called once at most.
   */
  constructor(hello, on) {
    this.on = on;
    this.over = false;
    this.waiting = [];
    this.socket = new WebSocket(new URL("v1/live", location.href.replace(/^http/, "ws")));
    this.socket.binaryType = "arraybuffer";
    this.socket.onmessage = ({ data }) => this.take(data);
    this.socket.onclose = async () => this.fail(await whyNoSocket());
    this.socket.onopen = () => {
      this.sendJson(KINDS.hello, { protocol: 1, format: "float32", ...hello });
      for (const message of this.waiting.splice(0)) this.socket.send(message);
    };
  }

  sendAudio(samples) {
    const message = new Uint8Array(1 + samples.byteLength);
    message[0] = KINDS.audio;
    message.set(new Uint8Array(samples.buffer, samples.byteOffset, samples.byteLength), 1); // little-endian, as all browsers' machines are
    this.send(message);
  }

  sendEvent(type) {
    this.sendJson(KINDS.event, { type });
  }

  /** No more is heard of it. */
  close() {
    this.over = true;
    this.socket.close();
  }

  sendJson(kind, content) {
    const text = new TextEncoder().encode(JSON.stringify(content));
    const message = new Uint8Array(1 + text.length);
    message[0] = kind;
    message.set(text, 1);
    if (kind === KINDS.hello) this.socket.send(message);
    else this.send(message);
  }

  send(message) {
    if (this.socket.readyState === WebSocket.CONNECTING) this.waiting.push(message);
    else if (this.socket.readyState === WebSocket.OPEN) this.socket.send(message);
  }

  take(message) {
    if (this.over) return;
    const kind = new Uint8Array(message)[0];
    const content = message.slice(1);
    if (kind === KINDS.audio) return this.on.audio(new Float32Array(content));
    const told = JSON.parse(new TextDecoder().decode(content));
    if (kind === KINDS.hello) this.on.hello(told);
    if (kind === KINDS.event) {
      this.on.event(told);
      if (told.type === "done") this.close();
    }
    if (kind === KINDS.error) this.fail(new PersonError(told.message, told.code));
  }

  fail(error) {
    if (this.over) return;
    this.close();
    this.on.fail(error);
  }
}
