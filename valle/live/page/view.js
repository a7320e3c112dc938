/** What the page shows in each state; which button does what is the app's. */

const part = (name) => document.getElementById(name);

/** By state: the status line, the large button's word and symbol; without a word it cannot be pressed. */
const STATES = {
  starting: ["Getting ready.", "Record", "record", false],
  closed: ["Not connected.", "Record", "record", false],
  idle: ["Ready when you are.", "Record", "record", true],
  asking: ["Allow the microphone in your browser.", "Record", "record", false],
  recording: ["Speak now.", "That is enough", "stop", true],
  waiting: ["The model listens.", "Stop", "stop", true],
  hearing: ["This is the recording.", "Stop", "stop", true],
  continuing: ["The voice goes on.", "Stop", "stop", true],
  playing: ["Playing the recording and what follows it.", "Stop", "stop", true],
  done: ["Done.", "Play", "play", true],
};

export class View {
  constructor() {
    this.state = "starting";
    this.picture = part("picture");
    this.url = null;
  }

  connect(app, server) {
    const whenFree = (action) => (event) => app.isBusy || action(event);
    part("main").onclick = () => app.press();
    part("again").onclick = whenFree(() => app.again());
    part("another").onclick = whenFree(() => app.record());
    part("file").onchange = whenFree(({ target }) => {
      const [file] = target.files;
      target.value = ""; // so that the same file can be chosen again
      if (file) app.open(() => file);
    });
    part("sample").onchange = whenFree(({ target }) => {
      const url = target.value;
      if (url) app.open(() => server.sampleFile(url));
    });
    part("seconds").onchange = whenFree(() => app.changeSeconds());
    part("settings").onsubmit = (event) => event.preventDefault();
    part("token-form").onsubmit = (event) => {
      event.preventDefault();
      server.useToken(part("token").value);
      part("token-form").hidden = true;
      this.error("");
      app.start();
    };
    document.onkeydown = ({ key }) => {
      if (key === "Escape" && app.isBusy) app.stop();
    };
    this.connectDrop(whenFree((file) => app.open(() => file)));
  }

  connectDrop(open) {
    const hasFiles = ({ dataTransfer }) => [...dataTransfer.types].includes("Files");
    document.ondragover = (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      part("drop").hidden = false;
    };
    document.ondragleave = ({ relatedTarget }) => (part("drop").hidden = relatedTarget === null);
    document.ondrop = (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      part("drop").hidden = true;
      if (event.dataTransfer.files.length) open(event.dataTransfer.files[0]);
    };
  }

  show(state) {
    const [status, word, symbol, isOn] = STATES[state];
    this.state = state;
    document.body.dataset.state = state;
    part("status").textContent = status;
    part("clock").textContent = "";
    part("main").setAttribute("aria-disabled", !isOn); // and not disabled, which would lose the focus
    part("main").querySelector("span").textContent = word;
    part("main").querySelector("use").setAttribute("href", `#${symbol}`);
    const isDone = state === "done";
    if (["again", "another", "download"].includes(document.activeElement.id) && !isDone) part("main").focus();
    for (const name of ["again", "another", "download", "facts"]) part(name).hidden = !isDone;
    const isFree = state === "idle" || isDone;
    for (const name of ["file", "sample"]) part(name).disabled = !isFree;
    if (!isFree) this.error("");
    this.describe(state);
  }

  describe(state) {
    const texts = { recording: "the recording as it comes in", continuing: "the recording, and the continuation as it is made", done: "" };
    if (state in texts) this.picture.setAttribute("aria-label", `Spectrogram: ${texts[state] || this.summary}`);
  }

  clock(seconds, of) {
    part("clock").textContent = `${seconds.toFixed(1)} of ${of.toFixed(of % 1 ? 1 : 0)} s`;
  }

  queue(position) {
    part("status").textContent = position ? `Others are listening. You are number ${position} in the queue.` : STATES.waiting[0];
  }

  underruns(count) {
    if (count) part("status").textContent = `The voice goes on, with ${gaps(count)}.`;
  }

  /** What came of a run: facts about it, and its file. */
  offer(run, wav, file) {
    const rate = run.player.sampleRate;
    const newSeconds = (run.newSamples / rate).toFixed(1);
    const promptSeconds = (run.sentSamples / rate).toFixed(1);
    this.summary = `${promptSeconds} seconds of recording, then ${newSeconds} seconds of continuation`;
    const first = run.firstSoundMs === null ? [] : [["Heard after", `${(run.firstSoundMs / 1000).toFixed(2)} s`]];
    const facts = [["New", `${newSeconds} s`], ...first, ["Seed", run.settings.seed], ["Gaps", run.underruns ? `${run.underruns}, the server is slower than the sound` : "none"], ["Model", run.settings.model]];
    part("facts").replaceChildren(...facts.map(([name, value]) => item(name, value)));
    if (this.url) URL.revokeObjectURL(this.url);
    this.url = URL.createObjectURL(file);
    part("download").href = this.url;
    part("download").download = `voice-seed-${run.settings.seed}.wav`;
    part("again").textContent = `Again, seed ${run.settings.seed + 1}`;
  }

  error(text, code) {
    part("error").textContent = text;
    if (code === "unauthorized") {
      part("token-form").hidden = false;
      part("token").focus();
    }
  }
}

const gaps = (count) => (count === 1 ? "1 gap" : `${count} gaps`);

function item(name, value) {
  const line = document.createElement("li");
  const bold = document.createElement("b");
  bold.textContent = value;
  line.append(`${name} `, bold);
  return line;
}
