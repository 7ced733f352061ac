// The queue and the incident: live, by keyboard, with a bell for what is urgent.
"use strict";
(() => {
  const shown = () => document.dispatchEvent(new Event("tipline:shown"));
  const typing = (target) => target.closest("input, textarea, select, [contenteditable]") !== null;
  const queue = document.getElementById("queue");
  const incident = () => document.getElementById("incident");
  const item = (id) => (id ? document.querySelector(`#items .item[data-id="${CSS.escape(id)}"]`) : null);

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
  async function sounding() {
    sound = sound || new AudioContext();
    await sound.resume();
    showBell(true);
  }
  if (bell) {
    bell.addEventListener("click", async () => {
      const on = bell.getAttribute("aria-pressed") !== "true";
      localStorage.setItem("tipline-bell", on ? "on" : "off");
      if (on) {
        await sounding();
        ring();
      } else {
        if (sound) await sound.suspend();
        showBell(false);
      }
    });
    // Who had it on gets it back: at once where the browser lets us, else with the first touch of a key or the screen.
    const wanted = () => localStorage.getItem("tipline-bell") === "on";
    if (wanted()) {
      const back = () => { if (wanted()) sounding(); };
      for (const touch of ["pointerdown", "keydown"]) document.addEventListener(touch, back, { once: true });
      back();
    }
  }

  // --- live
  const live = document.getElementById("live");
  function connected(on) {
    if (!live) return;
    live.textContent = on ? live.dataset.on : live.dataset.off;
    live.classList.toggle("is-off", !on);
  }
  const say = (id) => { const note = document.getElementById(id); if (note) note.hidden = false; return note; };
  // Whether the connection broke or the session ended: only the server knows.
  async function lost() {
    connected(false);
    const answer = await fetch(location.href, { headers: { "HX-Request": "true" } }).catch(() => null);
    if (answer && answer.status === 401) say("ended");
  }
  const ids = (selector) => new Set([...document.querySelectorAll(selector)].map((one) => one.dataset.id));
  const incidents = () => [...document.querySelectorAll("#items [data-urgent]")].map((one) => one.dataset.urgent);
  const rung = new Set(queue ? incidents() : [incident()?.dataset.incident]);
  let known = ids("#items .item"), here = null;

  function dirty(root) {
    return [...root.querySelectorAll("textarea, input:not([type=hidden]), select")].some((field) =>
      field.type === "checkbox" ? field.checked !== field.defaultChecked
        : field.tagName === "SELECT" ? [...field.options].some((option) => option.selected !== option.defaultSelected && !(field.selectedIndex === 0 && ![...field.options].some((o) => o.defaultSelected)))
        : field.value !== field.defaultValue);
  }
  const writing = (page) => dirty(page) || page.querySelector("details.move[open]") !== null;
  function news(event) {
    const { changed, urgent } = JSON.parse(event.data);
    const fresh = urgent.filter((one) => !rung.has(one));
    for (const one of fresh) rung.add(one);
    if (fresh.length) ring();
    const page = incident();
    if (!page) return;
    if (fresh.length) say("arrived").querySelector("a").href = "/console/incidents/" + encodeURIComponent(fresh[0]);
    // Loaded anew when something happened to it, unless somebody is writing on it.
    if (!changed.includes(page.dataset.assignment)) return;
    if (writing(page)) say("changed");
    else htmx.trigger(page, "refresh");
  }
  // Or has begun to while the new page was on its way.
  document.addEventListener("htmx:beforeSwap", (event) => {
    if (event.target !== incident() || !writing(event.target)) return;
    event.detail.shouldSwap = false;
    say("changed");
  });
  const followed = new WeakSet();
  function follow(source) {
    if (followed.has(source)) return;
    followed.add(source);
    source.addEventListener("changed", news);
    source.addEventListener("ended", () => { source.close(); connected(false); say("ended"); });
  }
  document.addEventListener("htmx:sseOpen", (event) => { connected(true); follow(event.detail.source); });
  document.addEventListener("htmx:sseError", (event) => { if (event.detail.source.readyState === EventSource.CLOSED) lost(); else connected(false); });
  document.addEventListener("htmx:sseClose", () => connected(false));
  document.addEventListener("htmx:responseError", (event) => { if (event.detail.xhr.status === 401) say("ended"); });

  // An incident listens while it is looked at: a browser has few connections to one server, and officers open many tabs.
  let source = null;
  function listen() {
    const page = incident();
    if (!page || !page.dataset.events) return;
    if (document.hidden) {
      if (source) source.close();
      source = null;
    } else if (source === null || source.readyState === EventSource.CLOSED) {
      source = new EventSource(page.dataset.events);
      source.addEventListener("error", (event) => { if (event.target.readyState === EventSource.CLOSED) lost(); });
      follow(source);
    }
  }
  document.addEventListener("visibilitychange", listen);
  listen();

  // --- the queue, drawn anew: what is new stands out, and what one looks at stays where it is
  if (queue) {
    let held = null;
    queue.addEventListener("htmx:beforeSwap", () => {
      const anchor = window.scrollY > 0 && [...document.querySelectorAll("#items .item")].find((one) => one.getBoundingClientRect().top >= 0);
      held = anchor ? [anchor.dataset.id, anchor.getBoundingClientRect().top] : null;
    });
    queue.addEventListener("htmx:afterSwap", (event) => {
      // What a filter brings is not new, only what comes by itself.
      const live = event.detail.requestConfig.elt === queue;
      for (const one of live ? document.querySelectorAll("#items .item") : []) if (!known.has(one.dataset.id)) one.classList.add("is-new");
      known = ids("#items .item");
      const open = document.querySelector("#queue [data-open]").dataset.open;
      document.title = (Number(open) ? `(${open}) ` : "") + document.title.replace(/^\(\d+\) /, "");
      const anchor = held && item(held[0]);
      if (anchor) window.scrollBy(0, anchor.getBoundingClientRect().top - held[1]);
      mark(item(here), false);
      shown();
    });
    queue.addEventListener("click", (event) => {
      const opened = event.target.closest("a.what");
      if (opened) sessionStorage.setItem("tipline-here", opened.closest(".item").dataset.id);
    });
    here = sessionStorage.getItem("tipline-here");
    mark(item(here), false);
  }
  document.body.addEventListener("htmx:afterSettle", (event) => {
    if (event.target.id === "incident") { shown(); document.dispatchEvent(new Event("tipline:maps")); }
  });

  // --- keys
  function mark(one, focus = true) {
    for (const other of document.querySelectorAll(".item.is-here")) other.classList.remove("is-here");
    if (!one) return;
    one.classList.add("is-here");
    here = one.dataset.id;
    if (focus) one.querySelector(".what").focus();
  }
  function step(by) {
    const items = [...document.querySelectorAll("#items .item")];
    const at = items.findIndex((one) => one.classList.contains("is-here"));
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
  const help = () => document.getElementById("help").showModal();
  document.addEventListener("click", (event) => { if (event.target.closest("[data-help]")) help(); });
  document.addEventListener("focusin", (event) => {
    const one = event.target.closest(".item");
    if (one && one.dataset.id !== here) mark(one, false);
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape" && typing(event.target)) { event.target.blur(); return; }
    if (typing(event.target) || document.querySelector("dialog[open]")) return;
    if (event.key === "?") help();
    else if (queue) {
      if (event.key === "j" || event.key === "ArrowDown") step(1);
      else if (event.key === "k" || event.key === "ArrowUp") step(-1);
      else if (event.key === "c") document.querySelector(".item.is-here .act button")?.click();
      else if (event.key === "n") document.querySelector("#next button:not([disabled])")?.click();
      else if (event.key === "/") document.querySelector("[name=words]").focus();
      else return;
    } else if (event.key === "u") document.getElementById("back").click();
    else if (!press(event.key)) return;
    event.preventDefault();
  });
})();
