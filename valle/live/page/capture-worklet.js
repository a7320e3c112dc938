/** Hands on what comes in, as mono samples in blocks of 20 ms. */
class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.block = new Float32Array(Math.round(sampleRate / 50));
    this.filled = 0;
  }

  process([[samples]]) {
    if (!samples) return true; // nothing is connected yet
    for (let start = 0; start < samples.length; ) {
      const part = samples.subarray(start, start + this.block.length - this.filled);
      this.block.set(part, this.filled);
      this.filled += part.length;
      start += part.length;
      if (this.filled === this.block.length) {
        this.port.postMessage(this.block, [this.block.buffer]);
        this.block = new Float32Array(Math.round(sampleRate / 50));
        this.filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("capture", Capture);
