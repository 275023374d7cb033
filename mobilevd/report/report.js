"use strict";
// Clips of a player keep step with the first visible one: its time is everyone's.
for (const player of document.querySelectorAll("[data-player]")) {
  const [play, seek, slow, choose] = ["play", "seek", "slow", "choose"].map((name) => player.querySelector(`[data-${name}]`));
  const groups = [...player.querySelectorAll("[data-group]")];
  const clips = [...player.querySelectorAll("video")];
  let shown = groups[0], playing = false, seen = false;
  const active = () => [...shown.querySelectorAll("video")];
  const show = () => {
    play.textContent = playing ? "Pause" : "Play";
    play.setAttribute("aria-pressed", String(playing));
  };
  const start = () => {
    const together = active(), at = together[0].currentTime;
    for (const clip of together) {
      clip.currentTime = at;
      clip.playbackRate = slow.checked ? 0.25 : 1;
      clip.play().catch(() => {});
    }
  };
  const set = (wanted) => {
    playing = wanted;
    clips.forEach((clip) => clip.pause());
    if (playing && seen) start();
    show();
  };
  const keepStep = () => {
    const [first, ...others] = active();
    if (playing && seen && first && first.duration) {
      seek.value = first.currentTime / first.duration;
      for (const clip of others) {
        // a seek costs more than a small lag: a twentieth of a second is not seen
        if (!clip.seeking && Math.abs(clip.currentTime - first.currentTime) > 0.05) clip.currentTime = first.currentTime;
      }
    }
    requestAnimationFrame(keepStep);
  };
  for (const clip of clips) clip.removeAttribute("controls");
  player.querySelector(".controls").hidden = false;
  groups.forEach((group) => (group.hidden = group !== shown));
  play.addEventListener("click", () => set(!playing));
  slow.addEventListener("change", () => set(playing));
  seek.addEventListener("input", () => {
    set(false);
    for (const clip of active()) clip.currentTime = Math.min(seek.value * clip.duration, clip.duration - 0.001);
  });
  if (choose) {
    choose.addEventListener("change", () => {
      shown = groups[Number(choose.value)];
      groups.forEach((group) => (group.hidden = group !== shown));
      set(playing);
    });
  }
  new IntersectionObserver(([entry]) => {
    seen = entry.isIntersecting;
    set(playing);
  }).observe(player);
  set(!matchMedia("(prefers-reduced-motion: reduce)").matches);
  requestAnimationFrame(keepStep);
}
// A link to a folded row opens it.
const unfold = () => {
  const target = document.getElementById(location.hash.slice(1));
  if (target instanceof HTMLDetailsElement) target.open = true;
};
addEventListener("hashchange", unfold);
unfold();
