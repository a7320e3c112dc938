// State: who rates now, and everybody's answers so far, kept after each answer under the test's own name.
const store = "valle-listening-" + test.test;
const $ = id => document.getElementById(id);
const hash = text => [...text].reduce((sum, letter) => Math.imul(sum ^ letter.codePointAt(0), 16777619) >>> 0, 2166136261);
let state = { rater: "", raters: {} };
let order = [], place = 0, began = 0, players = [];

function load() {
  try { state = JSON.parse(localStorage.getItem(store)) || state; } catch { /* a browser without storage still rates */ }
}
const answers = () => state.raters[state.rater];
function save() {
  try { localStorage.setItem(store, JSON.stringify(state)); } catch { $("hint").textContent = "This browser keeps nothing: do not close the page."; }
}
function show(id) { ["intro", "trial", "end"].forEach(name => { $(name).hidden = name !== id; }); }

// Every rater hears the trials in an order of their own, always the same one.
function orderFor(rater) {
  const key = trial => { let value = hash(rater + " " + trial.id); value ^= value >>> 15; value = Math.imul(value, 2246822519); return (value ^ (value >>> 13)) >>> 0; };
  return [...test.trials].sort((one, other) => key(one) - key(other));
}

function start() {
  const rater = $("rater").value.trim();
  if (!rater) { $("rater").focus(); return; }
  state.rater = rater;
  state.raters[rater] ??= {};
  order = orderFor(rater);
  save();
  const open = order.findIndex(trial => !answers()[trial.id]);
  go(open < 0 ? order.length : open);
}

function go(to) {
  players.forEach(player => player.audio.pause());
  place = Math.max(0, to);
  if (place >= order.length) { $("total").textContent = order.length; show("end"); return; }
  const trial = order[place], known = answers()[trial.id];
  $("count").textContent = `${place + 1} of ${order.length}`;
  $("who").textContent = state.rater;
  document.querySelector(".bar i").style.width = 100 * Object.keys(answers()).length / order.length + "%";
  $("back").disabled = place === 0;
  $("clips").replaceChildren();
  players = trial.clips.map((file, side) => makePlayer(file, trial, side));
  document.querySelectorAll("[data-answer]").forEach(button => {
    button.disabled = !known;
    button.setAttribute("aria-pressed", String(known?.answer === button.dataset.answer));
  });
  $("hint").textContent = known ? "Answered; you may change it." : trial.clips.length > 1 ? "Listen to both to answer." : "Listen to the end to answer.";
  began = performance.now();
  show("trial");
}

function makePlayer(file, trial, side) {
  const audio = new Audio(file), row = document.createElement("div"), button = document.createElement("button"), time = document.createElement("div");
  const name = trial.clips.length > 1 ? " " + "AB"[side] : "";
  row.className = "clip"; time.className = "time";
  button.textContent = "▶ Play" + name;
  time.innerHTML = '<div class="prompt"></div><div class="done"></div>';
  row.append(button, time);
  $("clips").append(row);
  const player = { audio, heard: false };
  const follow = () => {
    time.querySelector(".done").style.width = 100 * audio.currentTime / (audio.duration || 1) + "%";
    if (!audio.paused) requestAnimationFrame(follow);
  };
  audio.addEventListener("loadedmetadata", () => { time.querySelector(".prompt").style.width = 100 * trial.prompt / audio.duration + "%"; });
  audio.addEventListener("play", () => { players.forEach(other => other !== player && other.audio.pause()); button.textContent = "❚❚ Pause" + name; follow(); });
  audio.addEventListener("pause", () => { button.textContent = "▶ Play" + name; });
  audio.addEventListener("ended", () => {
    player.heard = true;
    if (players.every(one => one.heard)) {
      document.querySelectorAll("[data-answer]").forEach(one => { one.disabled = false; });
      $("hint").textContent = "";
    }
  });
  player.toggle = () => { if (audio.paused) audio.play().catch(() => { $("hint").textContent = "This sound does not play here."; }); else audio.pause(); };
  button.addEventListener("click", () => { player.toggle(); button.blur(); });
  time.addEventListener("click", event => {
    const box = time.getBoundingClientRect(), to = (event.clientX - box.left) / box.width * (audio.duration || 0);
    if (player.heard || to < audio.currentTime) audio.currentTime = to;  // forward only after it was heard to its end
  });
  return player;
}

function answer(value) {
  const button = document.querySelector(`[data-answer="${value}"]`);
  if (!button || button.disabled) return;
  answers()[order[place].id] = { answer: value, seconds: Math.round((performance.now() - began) / 100) / 10 };
  save();
  go(place + 1);
}

function download() {
  const rows = order.map(trial => ({ trial: trial.id, ...answers()[trial.id] }));
  const content = JSON.stringify({ test: test.test, kind: test.kind, rater: state.rater, answers: rows }, null, 1);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type: "application/json" }));
  link.download = `answers-${state.rater.replace(/[^\w-]+/g, "-")}.json`;
  link.click();
}

document.querySelectorAll("[data-answer]").forEach(button => button.addEventListener("click", () => answer(button.dataset.answer)));
$("start").addEventListener("click", start);
$("rater").addEventListener("keydown", event => { if (event.key === "Enter") start(); });
$("back").addEventListener("click", () => go(place - 1));
$("again").addEventListener("click", () => go(order.length - 1));
$("other").addEventListener("click", () => { $("rater").value = ""; show("intro"); });
$("download").addEventListener("click", download);
document.addEventListener("keydown", event => {
  if ($("trial").hidden || event.target.tagName === "INPUT" || event.ctrlKey || event.metaKey || event.altKey) return;
  const choices = [...document.querySelectorAll("[data-answer]")].map(button => button.dataset.answer);
  const next = () => players.find(player => !player.audio.paused) || players.find(player => !player.heard) || players[0];
  const keys = { " ": () => next().toggle(), a: () => players[0].toggle(), b: () => players[1]?.toggle(), ArrowLeft: () => place && go(place - 1),
                 1: () => answer(choices[0]), 2: () => answer(choices[1]) };
  if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
});
load();
if (state.rater) $("rater").value = state.rater;
