// The queue and the incident: live, by keyboard, with a bell for what is urgent.
"use strict";
(() => {
  const shown = () => document.dispatchEvent(new Event("tipline:shown"));
  const typing = (target) => target.closest("input, textarea, select, [contenteditable]") !== null;

  // --- the bell: silent until somebody turns it on, for a browser plays no sound before a gesture
  const bell = document.getElementById("bell");
  let sound = null;
  function ring() {
    if (sound === null || sound.state !== "running") return;
    document.documentElement.dataset.rang = String(Number(document.documentElement.dataset.rang || 0) + 1);
    for (const [at, pitch] of [[0, 880], [0.22, 660], [0.44, 880]]) {
      const tone = sound.createOscillator(), volume = sound.createGain();
      tone.frequency.value = pitch;
      volume.gain.setValueAtTime(0.0001, sound.currentTime + at);
      volume.gain.exponentialRampToValueAtTime(0.25, sound.currentTime + at + 0.02);
      volume.gain.exponentialRampToValueAtTime(0.0001, sound.currentTime + at + 0.18);
      tone.connect(volume).connect(sound.destination);
      tone.start(sound.currentTime + at);
      tone.stop(sound.currentTime + at + 0.2);
    }
  }
  function showBell(on) {
    bell.setAttribute("aria-pressed", String(on));
    bell.textContent = on ? bell.dataset.on : bell.dataset.off;
  }
  if (bell) {
    bell.addEventListener("click", async () => {
      const on = bell.getAttribute("aria-pressed") !== "true";
      localStorage.setItem("tipline-bell", on ? "on" : "off");
      if (on) {
        sound = sound || new AudioContext();
        await sound.resume();
        ring();
      } else if (sound) {
        await sound.suspend();
      }
      showBell(on);
    });
    // Somebody who had it on yesterday gets it back with the first touch of today.
    if (localStorage.getItem("tipline-bell") === "on") {
      const back = () => { sound = new AudioContext(); sound.resume().then(() => showBell(true)); };
      document.addEventListener("pointerdown", back, { once: true });
    }
  }

  // --- live
  const live = document.getElementById("live");
  function connected(on) {
    if (!live) return;
    live.textContent = on ? live.dataset.on : live.dataset.off;
    live.classList.toggle("is-off", !on);
  }
  document.addEventListener("htmx:sseOpen", () => connected(true));
  document.addEventListener("htmx:sseError", () => connected(false));
  document.addEventListener("htmx:sseClose", () => connected(false));

  const queue = document.getElementById("queue");
  const ids = (selector) => new Set([...document.querySelectorAll(selector)].map((item) => item.dataset.id));
  let known = ids("#items .item"), urgent = ids("#items [data-urgent]"), here = null;
  if (queue) {
    queue.addEventListener("htmx:afterSwap", () => {
      const fresh = [...document.querySelectorAll("#items .item")].filter((item) => !known.has(item.dataset.id));
      for (const item of fresh) item.classList.add("is-new");
      if ([...ids("#items [data-urgent]")].some((id) => !urgent.has(id))) ring();
      known = ids("#items .item");
      urgent = ids("#items [data-urgent]");
      if (here) mark(document.querySelector(`#items .item[data-id="${CSS.escape(here)}"]`), false);
      shown();
    });
  }

  // An incident is loaded anew when something happened to it, unless somebody is writing on it.
  function dirty(root) {
    return [...root.querySelectorAll("textarea, input:not([type=hidden]), select")].some((field) =>
      field.type === "checkbox" ? field.checked !== field.defaultChecked
        : field.tagName === "SELECT" ? [...field.options].some((option) => option.selected !== option.defaultSelected && !(field.selectedIndex === 0 && ![...field.options].some((o) => o.defaultSelected)))
        : field.value !== field.defaultValue);
  }
  const incident = () => document.getElementById("incident");
  function follow(source) {
    source.addEventListener("changed", (event) => {
      const page = incident();
      if (!page || !JSON.parse(event.data).includes(page.dataset.assignment)) return;
      if (dirty(page) || page.querySelector("details.move[open]")) document.getElementById("changed").hidden = false;
      else htmx.trigger(page, "refresh");
    });
  }
  document.addEventListener("htmx:sseOpen", (event) => { if (incident() && event.detail && event.detail.source) follow(event.detail.source); });
  document.body.addEventListener("htmx:afterSettle", (event) => {
    if (event.target.id === "incident") { shown(); document.dispatchEvent(new Event("tipline:maps")); }
  });

  // --- keys
  function mark(item, focus = true) {
    for (const other of document.querySelectorAll(".item.is-here")) other.classList.remove("is-here");
    if (!item) return;
    item.classList.add("is-here");
    here = item.dataset.id;
    if (focus) item.querySelector(".what").focus();
  }
  function step(by) {
    const items = [...document.querySelectorAll("#items .item")];
    const at = items.findIndex((item) => item.dataset.id === here);
    mark(items[Math.max(0, Math.min(items.length - 1, at < 0 ? 0 : at + by))]);
  }
  function press(key) {
    const target = document.querySelector(`[data-key="${CSS.escape(key)}"]`);
    if (!target) return false;
    if (target.tagName === "SUMMARY") {
      target.parentElement.open = true;
      target.parentElement.querySelector("select, textarea, input:not([type=hidden])").focus();
    } else target.click();
    return true;
  }
  document.addEventListener("focusin", (event) => {
    const item = event.target.closest(".item");
    if (item && item.dataset.id !== here) mark(item, false);
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape" && typing(event.target)) { event.target.blur(); return; }
    if (typing(event.target) || document.querySelector("dialog[open]")) return;
    if (queue) {
      if (event.key === "j" || event.key === "ArrowDown") step(1);
      else if (event.key === "k" || event.key === "ArrowUp") step(-1);
      else if (event.key === "c") document.querySelector(".item.is-here .act button")?.click();
      else if (event.key === "n") document.querySelector("#next button:not([disabled])")?.click();
      else if (event.key === "/") document.querySelector("[name=words]").focus();
      else if (event.key === "?") document.getElementById("help").showModal();
      else return;
      event.preventDefault();
    } else if (incident()) {
      if (event.key === "u") document.getElementById("back").click();
      else if (!press(event.key)) return;
      event.preventDefault();
    }
  });
})();
