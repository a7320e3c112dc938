/** The page: what a person presses, and what they see and hear of it. */

import { PersonError } from "./errors.js";
import { Microphone } from "./microphone.js";
import { Player } from "./player.js";
import { Run } from "./run.js";
import { encodeWav, readSound } from "./sound-files.js";
import * as server from "./server.js";
import { Spectrogram } from "./spectrogram.js";
import { readSettings, showModels, showSamples } from "./settings.js";
import { View } from "./view.js";

const PROMPT_SECONDS = 3;

class App {
  constructor() {
    this.view = new View();
    this.spectrogram = new Spectrogram(this.view.picture);
    this.run = null; // the newest
    this.result = null; // the newest run that has something to hear
    this.player = null;
  }

  async start() {
    try {
      showModels(await server.models());
      showSamples(await server.samples());
      this.view.show("idle");
    } catch (error) {
      this.view.show("closed");
      this.tell(error);
    }
  }

  get isBusy() {
    return ["asking", "recording", "waiting", "hearing", "continuing", "playing"].includes(this.view.state);
  }

  /** What the large button does, by state. */
  press() {
    const presses = {
      idle: () => this.record(),
      recording: () => this.run.endPrompt(),
      waiting: () => this.stop(),
      hearing: () => this.stop(),
      continuing: () => this.stop(),
      playing: () => this.stop(),
      done: () => this.replay(),
    };
    presses[this.view.state]?.();
  }

  record() {
    return this.begin("asking", async (run) => {
      const microphone = await Microphone.open();
      if (run.over) return microphone.close();
      await run.record(microphone);
      this.view.show("recording");
    });
  }

  /** A file that was chosen or dropped, or a sample. */
  open(getFile) {
    return this.begin("waiting", async (run) => {
      const sound = await readSound(await getFile(), PROMPT_SECONDS);
      if (!run.over) await run.send(sound, { playsPrompt: true });
    });
  }

  /** The same prompt with the next seed. */
  again() {
    const { source } = this.result;
    document.getElementById("seed").value = this.result.settings.seed + 1;
    return this.begin("waiting", (run) => run.send(source, { playsPrompt: false }));
  }

  async begin(state, feed) {
    const settings = readSettings();
    if (!settings || this.isBusy) return;
    this.run = null;
    this.view.show(state);
    this.clear(settings.max_seconds);
    try {
      const player = await this.playerAt(settings.sampleRate);
      if (this.view.state !== state) return; // stopped meanwhile
      const { sampleRate, ...asked } = settings;
      const run = new Run({ ...asked, prompt_seconds: PROMPT_SECONDS, token: server.currentToken() }, player, this.listeners());
      this.run = run;
      await feed(run);
    } catch (error) {
      this.run?.stop();
      this.settle();
      this.tell(error);
    }
  }

  listeners() {
    const { view, spectrogram } = this;
    let promptSeconds = 0;
    return {
      prompt: (samples, rate) => {
        spectrogram.push(samples, rate);
        promptSeconds += samples.length / rate;
        view.clock(promptSeconds, PROMPT_SECONDS);
      },
      promptEnd: (seconds) => {
        spectrogram.endPrompt(seconds);
        view.show("waiting");
      },
      queued: (position) => view.queue(position),
      sound: (samples, rate) => spectrogram.push(samples, rate),
      progress: (seconds, underruns) => this.progress(seconds, underruns),
      done: () => this.settle(),
      fail: (error) => {
        this.settle();
        this.tell(error);
      },
    };
  }

  progress(seconds, underruns) {
    const newSeconds = seconds - this.run.sentSamples / this.run.player.sampleRate;
    const state = newSeconds > 0 ? "continuing" : "hearing";
    if (this.view.state !== state) this.view.show(state);
    this.spectrogram.movePlayhead(seconds);
    if (newSeconds > 0) this.view.clock(newSeconds, this.run.settings.max_seconds);
    this.view.underruns(underruns);
  }

  stop() {
    this.player?.stop();
    if (this.view.state !== "playing") this.run?.stop();
    this.settle();
  }

  /** Nothing sounds any more: offer what there is. */
  settle() {
    const { run } = this;
    if (run?.newSamples > 0 && run !== this.result) {
      this.result = run;
      this.spectrogram.endNew(run.newSamples / run.player.sampleRate);
      const wav = run.wav;
      this.view.offer(run, wav, encodeWav(wav, run.player.sampleRate));
    }
    this.spectrogram.movePlayhead(null);
    const isResultShown = this.result !== null && run === this.result;
    if (!isResultShown) this.clear(run?.settings.max_seconds ?? 10);
    this.view.show(isResultShown ? "done" : "idle");
  }

  /** An empty picture with room for what is asked for. */
  clear(newSeconds) {
    this.spectrogram.reset({ promptSeconds: PROMPT_SECONDS, newSeconds });
  }

  changeSeconds() {
    const settings = readSettings();
    if (settings && this.view.state === "idle") this.clear(settings.max_seconds);
  }

  async replay() {
    const { player, wav } = this.result;
    this.view.show("playing");
    await player.start(({ played, finished }) => {
      this.spectrogram.movePlayhead(played / player.sampleRate);
      this.view.clock(played / player.sampleRate, wav.length / player.sampleRate);
      if (finished) this.settle();
    });
    player.push(wav);
    player.end();
  }

  async playerAt(sampleRate) {
    if (this.player?.sampleRate !== sampleRate) {
      await this.player?.close();
      this.player = await Player.open(sampleRate);
    }
    return this.player;
  }

  /** An error, in a line; a mistake of this page's is logged as well. */
  tell(error) {
    if (!(error instanceof PersonError)) console.error(error);
    this.view.error(error instanceof PersonError ? error.message : `This page made a mistake: ${error.message}. Reload it.`, error.code);
  }
}

export const app = new App();
app.view.connect(app, server);
await app.start();
