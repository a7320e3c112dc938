/** Sound out: samples go to the audio thread, behind a small jitter buffer. */

import { PlaybackQueue, REPORTS_A_SECOND } from "./playback-queue.js";

const BUFFER_SECONDS = 0.1; // before playing starts; more after an underrun
const BLOCK_SAMPLES = 2048; // where there is no audio thread

export class Player {
  /** Plays at `sampleRate` Hz; the browser resamples for the device. */
  static async open(sampleRate) {
    const context = new AudioContext({ sampleRate });
    const onheard = (heard) => heard.turn === player.turn && player.onprogress(heard);
    const { node, take } = context.audioWorklet ? await workletNode(context, onheard) : scriptNode(context, onheard);
    node.connect(context.destination);
    const player = new Player(context, node, take);
    return player;
  }

  constructor(context, node, take) {
    Object.assign(this, { context, node, take });
    this.turn = 0; // a report of an earlier one may still be on its way
    this.onprogress = () => {};
  }

  get sampleRate() {
    return this.context.sampleRate;
  }

  /** Forget what waits and count from 0 again; `onprogress({played, underruns, finished})` hears of it, in samples and how often. */
  async start(onprogress) {
    this.stop();
    this.onprogress = onprogress;
    await this.context.resume();
  }

  /** Queue samples, float32. */
  push(samples) {
    this.take({ samples });
  }

  /** No more samples will come. */
  end() {
    this.take({ end: true });
  }

  /** Silence at once. */
  stop() {
    this.turn += 1;
    this.take({ clear: this.turn });
    this.onprogress = () => {};
  }

  async close() {
    this.stop();
    await this.context.close();
  }
}

async function workletNode(context, onheard) {
  await context.audioWorklet.addModule(new URL("playback-worklet.js", import.meta.url));
  const processorOptions = { bufferSeconds: BUFFER_SECONDS };
  const node = new AudioWorkletNode(context, "playback", { numberOfInputs: 0, outputChannelCount: [1], processorOptions });
  node.port.onmessage = ({ data }) => onheard(data);
  return { node, take: (message) => node.port.postMessage(message) };
}

/** On plain http from another machine browsers have no AudioWorklet: the same queue, on this thread. */
function scriptNode(context, onheard) {
  const { sampleRate } = context;
  const queue = new PlaybackQueue({
    bufferSamples: BUFFER_SECONDS * sampleRate,
    reportSamples: sampleRate / REPORTS_A_SECOND,
    report: onheard,
  });
  const node = context.createScriptProcessor(BLOCK_SAMPLES, 0, 1);
  node.onaudioprocess = ({ outputBuffer }) => {
    const output = outputBuffer.getChannelData(0);
    output.fill(0);
    queue.fill(output);
  };
  return { node, take: (message) => queue.take(message) };
}
