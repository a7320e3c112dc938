const sounds = [...document.querySelectorAll(".sound[data-seconds]")];
sounds.forEach(sound => {
  const audio = sound.querySelector("audio"), picture = sound.querySelector(".picture"), head = sound.querySelector(".head");
  const seconds = Number(sound.dataset.seconds);
  const follow = () => {
    head.style.left = 100 * audio.currentTime / seconds + "%";
    if (!audio.paused) requestAnimationFrame(follow);
  };
  const stop = other => { const playing = other.querySelector("audio"); playing.pause(); };
  audio.addEventListener("play", () => { sounds.forEach(other => other !== sound && stop(other)); sound.classList.add("on"); follow(); });
  audio.addEventListener("pause", () => sound.classList.remove("on"));
  sound.querySelector("button").addEventListener("click", () => {
    if (!audio.paused) return audio.pause();
    audio.currentTime = 0;
    audio.play();
  });
  picture.addEventListener("click", event => {
    const box = picture.getBoundingClientRect();
    audio.currentTime = seconds * (event.clientX - box.left) / box.width;
    audio.play();
  });
});
