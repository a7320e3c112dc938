/** One prompt and what follows it: from the microphone or a sound to the server, and from the server to the player. */

import { PersonError } from "./errors.js";
import { LiveSocket } from "./live-socket.js";
import { joined } from "./sound-files.js";

const LEAST_SECONDS = 0.5; // of a prompt
const SILENCE = 1e-4; // a microphone's loudest sample below it is a muted one's
const AHEAD_SECONDS = 5; // how far the server may run ahead of what is heard
const PIECE_SECONDS = 0.1; // of a sound that is there already

export class Run {
  /**
   * `settings`: `{model, seed, temperature, max_seconds, prompt_seconds, token}`. `player` plays at the model's rate.
   *
   * `on` has functions: `prompt(samples, rate)` as it comes in, `promptEnd(seconds)`, `queued(position)`, `sound(samples, rate)` of new audio,
   * `progress(seconds, underruns)` of what is heard, counted from the prompt's start, `done()` when all was heard, and `fail(error)`.
   */
  constructor(settings, player, on) {
    Object.assign(this, { settings, player, on });
    this.prompt = []; // as captured
    this.promptSamples = 0; // at the capture's rate, so far
    this.sound = []; // at the player's rate: the prompt with its joint, then new audio
    this.sentSamples = 0; // how much of it is prompt
    this.received = 0;
    this.underruns = 0;
    this.promptEnded = null; // when, in ms
    this.firstSoundMs = null;
    this.realTimeFactor = null; // the server's seconds of work a second of new audio
    this.over = false;
  }

  /** Listen to a microphone until the prompt is full or `endPrompt` is called; it is closed then. */
  async record(microphone) {
    this.microphone = microphone;
    await this.connect(microphone.sampleRate, { playsPrompt: false });
    await microphone.listen(
      (samples) => this.hear(samples),
      () => this.fail(new PersonError("lost")),
    );
  }

  /** Send a sound that is there already; it is heard before what follows if `playsPrompt`. */
  async send({ samples, sampleRate }, { playsPrompt }) {
    if (samples.length < LEAST_SECONDS * sampleRate) throw new PersonError("short");
    await this.connect(sampleRate, { playsPrompt });
    const size = Math.round(PIECE_SECONDS * sampleRate);
    for (let start = 0; start < samples.length; start += size) this.hear(samples.slice(start, start + size));
    this.endPrompt();
  }

  /** The prompt as captured, which `send` takes again. */
  get source() {
    return { samples: joined(this.prompt), sampleRate: this.sampleRate };
  }

  /** All that can be heard: the prompt, then new audio, at the player's rate. */
  get wav() {
    return joined(this.sound);
  }

  get newSamples() {
    return this.received - this.sentSamples;
  }

  /** The prompt has been spoken. */
  endPrompt() {
    if (this.promptEnded !== null || this.over) return;
    this.promptEnded = performance.now();
    this.microphone?.close();
    if (this.promptSamples < LEAST_SECONDS * this.sampleRate) return this.fail(new PersonError("short"));
    if (this.microphone && this.prompt.every((block) => block.every((sample) => Math.abs(sample) < SILENCE))) {
      return this.fail(new PersonError("silent"));
    }
    this.socket.sendEvent("end");
    this.on.promptEnd(this.promptSamples / this.sampleRate);
  }

  /** Silence, and no more work for anybody. */
  stop() {
    this.over = true;
    this.microphone?.close();
    this.socket?.close(); // which ends the server's work as well
    this.player.stop();
  }

  async connect(sampleRate, { playsPrompt }) {
    this.sampleRate = sampleRate;
    this.playsPrompt = playsPrompt;
    await this.player.start((heard) => this.progress(heard));
    if (this.over) return;
    const hello = { ...this.settings, sample_rate: sampleRate, include_prompt: true, ahead_seconds: AHEAD_SECONDS };
    this.socket = new LiveSocket(hello, {
      hello: () => {},
      event: (event) => this.take(event),
      audio: (samples) => this.takeAudio(samples),
      fail: (error) => this.fail(error),
    });
  }

  hear(samples) {
    if (this.promptEnded !== null || this.over) return;
    const wanted = Math.round(this.settings.prompt_seconds * this.sampleRate) - this.promptSamples;
    const part = samples.slice(0, wanted);
    this.prompt.push(part);
    this.promptSamples += part.length;
    this.socket.sendAudio(part);
    this.on.prompt(part, this.sampleRate);
    if (part.length === wanted) this.endPrompt();
  }

  take(event) {
    if (event.type === "queued") this.on.queued(event.position);
    if (event.type === "joint") this.sentSamples = event.sent_samples;
    if (event.type === "done") {
      this.realTimeFactor = event.rtf;
      this.player.end();
    }
  }

  takeAudio(samples) {
    const fresh = samples.subarray(Math.max(0, Math.min(samples.length, this.sentSamples - this.received)));
    this.received += samples.length;
    this.sound.push(samples);
    if (this.playsPrompt) this.player.push(samples);
    else if (fresh.length) this.player.push(fresh);
    if (fresh.length) this.on.sound(fresh, this.player.sampleRate);
  }

  progress({ played, underruns, finished }) {
    if (this.over) return;
    if (!played) return;
    this.firstSoundMs ??= performance.now() - this.promptEnded;
    this.underruns = underruns;
    const before = this.playsPrompt ? 0 : this.sentSamples;
    this.on.progress((before + played) / this.player.sampleRate, underruns);
    if (!finished) return;
    this.over = true;
    this.on.done();
  }

  fail(error) {
    if (this.over) return;
    this.stop();
    this.on.fail(error);
  }
}
