export const REPORTS_A_SECOND = 30;
const MOST_TIMES = 16; // that the buffer grows to, of what it is at first

/**
 * Samples that wait to be heard, in the order in which they come, behind a jitter buffer.
 *
 * Playing starts when the buffer is full or no more samples will come. When nothing is left although more will come, that is an underrun:
 * it is counted, and playing waits until the buffer is full again, which holds twice as much then: few gaps are better than many.
 */
export class PlaybackQueue {
  /** `bufferSamples` before playing starts. `report({turn, played, underruns, finished})` is called 30 times a second of sound, and at its end. */
  constructor({ bufferSamples, reportSamples, report }) {
    Object.assign(this, { bufferSamples, reportSamples, report });
    this.clear();
  }

  /** Takes `{samples}`, `{end: true}`, or `{clear: turn}`, whose number all later reports carry. */
  take({ samples, end, clear }) {
    if (clear !== undefined) this.clear(clear);
    if (samples) {
      this.chunks.push(samples);
      this.waiting += samples.length;
    }
    if (end) this.ended = true;
  }

  clear(turn = 0) {
    this.turn = turn;
    this.chunks = [];
    this.offset = 0; // within the first chunk
    this.waiting = 0;
    this.played = 0;
    this.reported = 0;
    this.underruns = 0;
    this.wanted = this.bufferSamples;
    this.runs = false;
    this.ended = false;
    this.finished = false;
  }

  /** Writes what is to be heard now into `output`, which is silent before. */
  fill(output) {
    if (!this.runs) this.runs = this.waiting > 0 && (this.ended || this.waiting >= this.wanted);
    if (this.runs && this.write(output) < output.length && !this.ended) {
      this.underruns += 1;
      this.wanted = Math.min(2 * this.wanted, MOST_TIMES * this.bufferSamples);
      this.runs = false;
    }
    const finishes = this.ended && this.waiting === 0 && !this.finished;
    if (!finishes && this.played - this.reported < this.reportSamples) return;
    this.finished ||= finishes;
    this.reported = this.played;
    this.report({ turn: this.turn, played: this.played, underruns: this.underruns, finished: this.finished });
  }

  write(output) {
    let written = 0;
    while (written < output.length && this.chunks.length) {
      const part = this.chunks[0].subarray(this.offset, this.offset + output.length - written);
      output.set(part, written);
      written += part.length;
      this.offset += part.length;
      if (this.offset === this.chunks[0].length) {
        this.chunks.shift();
        this.offset = 0;
      }
    }
    this.waiting -= written;
    this.played += written;
    return written;
  }
}

