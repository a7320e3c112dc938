/** Sound as columns of a spectrogram, while it comes in. */

import { Fourier } from "./fourier.js";

export const COLUMNS_A_SECOND = 100;
export const ROWS = 144;
export const TOP_HERTZ = 8000;

const mel = (hertz) => 2595 * Math.log10(1 + hertz / 700);
const hertzOf = (mels) => 700 * (10 ** (mels / 2595) - 1);

/** Where a frequency stands on the picture's mel axis: 0 at the bottom, 1 at 8 kHz. */
export const height = (hertz) => mel(hertz) / mel(TOP_HERTZ);

/** Columns of one sound; windows are centred, and the sound is silent before its start. */
export class Columns {
  constructor(sampleRate) {
    this.sampleRate = sampleRate;
    this.fourier = new Fourier(sampleRate);
    this.kept = new Float32Array(this.fourier.window >> 1);
    this.dropped = -this.kept.length; // place of the first sample that is kept
    this.count = 0;
    this.edges = Float32Array.from({ length: ROWS + 1 }, (_, row) => hertzOf((row / ROWS) * mel(TOP_HERTZ)) / this.fourier.hertz);
  }

  /** The columns that `samples` complete: each `(ROWS,)` in dB, lowest frequency first. */
  *push(samples) {
    const joined = new Float32Array(this.kept.length + samples.length);
    joined.set(this.kept);
    joined.set(samples, this.kept.length);
    this.kept = joined;
    const { window } = this.fourier;
    for (;;) {
      const start = Math.round((this.count / COLUMNS_A_SECOND) * this.sampleRate) - (window >> 1) - this.dropped;
      if (start + window > this.kept.length) break;
      this.count += 1;
      yield this.column(this.kept.subarray(start, start + window));
    }
    const spent = Math.max(0, this.kept.length - window);
    this.kept = this.kept.slice(spent);
    this.dropped += spent;
  }

  /** The columns at the sound's end, whose windows reach into the silence after it. */
  finish() {
    return this.push(new Float32Array(this.fourier.window >> 1));
  }

  /** The loudest bin of each row; between two bins where a row is narrower than one. */
  column(samples) {
    const levels = this.fourier.decibels(samples);
    return Float32Array.from({ length: ROWS }, (_, row) => {
      const [low, high] = [this.edges[row], this.edges[row + 1]];
      if (Math.ceil(low) > levels.length - 1) return -120;
      const middle = Math.min((low + high) / 2, levels.length - 1.001);
      const below = Math.floor(middle);
      let level = levels[below] + (middle - below) * (levels[below + 1] - levels[below]);
      for (let bin = Math.ceil(low); bin <= Math.min(high, levels.length - 1); bin++) level = Math.max(level, levels[bin]);
      return level;
    });
  }
}
