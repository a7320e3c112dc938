/** What went wrong, in one line that says what to do. */

const LINES = {
  insecure:
    "Browsers give no microphone to a page that comes over plain http from another machine. Choose a file or a sample, or open the page over https.",
  denied: "This page may not use the microphone. Allow it beside the page's address, then press Record again. Or choose a file or a sample.",
  missing: "No microphone was found. Connect one, then press Record again. Or choose a file or a sample.",
  occupied: "The microphone gives no sound; another program may hold it. Close that program, then press Record again.",
  lost: "The microphone was disconnected. Connect it, then press Record again.",
  silent: "The recording is silent. Check that the microphone is on and not muted, then press Record again.",
  short: "That was too short. Press Record again and speak for three seconds.",
  unreadable: "This file could not be read as sound. Choose a wav, flac, mp3, ogg or m4a file.",
  large: "This file is too large. Choose a wav below 200 MB or another file below 20 MB; only the first seconds are used.",
  gone: "The server does not answer. Start valle-serve again, then try once more.",
  stopping: "The server is being stopped. Start valle-serve again, then try once more.",
  crowded: "The server has too many listeners now. Try again in a moment.",
  foreign: "The server does not answer to this address. Open the address that valle-serve printed.",
  unauthorized: "This server wants a token. Enter the one that valle-serve was started with.",
  lonely: "The server has no model. Start it with one: valle-serve --model FOLDER.",
};

/** An error for the person at the page: the name of a line above, or a sentence of the server's with its code. */
export class PersonError extends Error {
  constructor(nameOrSentence, code = nameOrSentence) {
    super(LINES[nameOrSentence] ?? nameOrSentence);
    this.name = "PersonError";
    this.code = code;
  }
}

/** What `getUserMedia` threw, for a person. */
export function microphoneError(error) {
  const names = {
    NotAllowedError: "denied",
    SecurityError: "denied",
    NotFoundError: "missing",
    OverconstrainedError: "missing",
    NotReadableError: "occupied",
    AbortError: "occupied",
  };
  return error.name in names ? new PersonError(names[error.name]) : error;
}
