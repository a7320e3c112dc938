/** Sound in: the microphone at the device's own rate, without the browser's processing. */

import { PersonError, microphoneError } from "./errors.js";

const AS_IT_IS = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };

export class Microphone {
  /** Asks for the microphone; raises a PersonError where there is none. */
  static async open() {
    if (!navigator.mediaDevices?.getUserMedia) throw new PersonError("insecure");
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio: AS_IT_IS });
    } catch (error) {
      throw microphoneError(error);
    }
    const { sampleRate } = stream.getAudioTracks()[0].getSettings(); // Firefox does not say, and takes the device's
    const context = new AudioContext(sampleRate ? { sampleRate } : {});
    await context.audioWorklet.addModule(new URL("capture-worklet.js", import.meta.url));
    return new Microphone(stream, context);
  }

  constructor(stream, context) {
    this.stream = stream;
    this.context = context;
    this.sampleRate = context.sampleRate;
    this.node = new AudioWorkletNode(context, "capture", {
      numberOfOutputs: 0,
      channelCount: 1,
      channelCountMode: "explicit",
      channelInterpretation: "speakers",
    });
  }

  /** `onsamples(Float32Array)` hears blocks of 20 ms from now on; `onlost()` that the microphone was taken away. */
  async listen(onsamples, onlost) {
    this.node.port.onmessage = ({ data }) => onsamples(data);
    this.stream.getAudioTracks()[0].onended = onlost;
    this.context.createMediaStreamSource(this.stream).connect(this.node);
    await this.context.resume();
  }

  async close() {
    this.node.port.onmessage = null;
    for (const track of this.stream.getTracks()) {
      track.onended = null;
      track.stop();
    }
    if (this.context.state !== "closed") await this.context.close();
  }
}
