/** Plays a queue on the audio thread. */

import { PlaybackQueue, REPORTS_A_SECOND } from "./playback-queue.js";

class Playback extends AudioWorkletProcessor {
  constructor({ processorOptions }) {
    super();
    this.queue = new PlaybackQueue({
      bufferSamples: processorOptions.bufferSeconds * sampleRate,
      reportSamples: sampleRate / REPORTS_A_SECOND,
      report: (heard) => this.port.postMessage(heard),
    });
    this.port.onmessage = ({ data }) => this.queue.take(data);
  }

  process(_, [[output]]) {
    this.queue.fill(output);
    return true;
  }
}

registerProcessor("playback", Playback);
