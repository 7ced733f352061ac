// The report page: position, map, and reports that are kept on this device while there is no network, each sent once.
"use strict";
(() => {
  const form = document.getElementById("report");
  const words = form.dataset;
  const field = (name) => form.elements.namedItem(name);
  const located = document.getElementById("located");

  // --- where
  function place(lat, lon) {
    field("lat").value = lat.toFixed(6);
    field("lon").value = lon.toFixed(6);
    located.textContent = words.wordsLocated;
  }
  const locate = document.getElementById("locate");
  if (window.isSecureContext && navigator.geolocation) {
    locate.hidden = false;
    locate.addEventListener("click", () => {
      located.textContent = words.wordsLocating;
      navigator.geolocation.getCurrentPosition(
        ({ coords }) => {
          place(coords.latitude, coords.longitude);
          map.dispatchEvent(new CustomEvent("tipline:put", { detail: { lat: coords.latitude, lon: coords.longitude } }));
        },
        () => { located.textContent = words.wordsNotLocated; },
        { enableHighAccuracy: true, timeout: 15000, maximumAge: 60000 });
    });
  }
  if (!window.isSecureContext) document.getElementById("insecure").hidden = false;
  const map = document.getElementById("map");
  const open = document.getElementById("open-map");
  const load = (source) => new Promise((done, failed) => {
    const script = document.createElement("script");
    script.src = source;
    script.onload = done;
    script.onerror = failed;
    document.head.append(script);
  });
  open.addEventListener("click", async () => {
    const show = map.hidden;
    map.hidden = !show;
    open.setAttribute("aria-expanded", String(show));
    if (show && !located.textContent) located.textContent = map.getAttribute("aria-label");
    if (!show || map.dataset.map) return;
    map.dataset.map = "1";
    const style = document.createElement("link");
    style.rel = "stylesheet";
    style.href = map.dataset.style;
    document.head.append(style);
    await load(map.dataset.leaflet);
    await load(map.dataset.script);
  });
  map.addEventListener("tipline:picked", (event) => place(event.detail.lat, event.detail.lon));

  // --- kept on this device: in IndexedDB, so that a closed browser loses nothing
  const store = (mode, work) => new Promise((done, failed) => {
    const opening = indexedDB.open("tipline", 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore("reports", { keyPath: "message_id" });
    opening.onerror = () => failed(opening.error);
    opening.onsuccess = () => {
      const transaction = opening.result.transaction("reports", mode);
      const request = work(transaction.objectStore("reports"));
      transaction.oncomplete = () => { opening.result.close(); done(request.result); };
      transaction.onerror = () => failed(transaction.error);
    };
  });
  const keep = (report) => store("readwrite", (reports) => reports.put(report));
  const forget = (id) => store("readwrite", (reports) => reports.delete(id));
  const kept = () => store("readonly", (reports) => reports.getAll());

  function entry(report) {
    const item = document.createElement("li");
    const text = document.createElement("span");
    text.textContent = "“" + [...report.text].slice(0, 24).join("") + "” ";
    const state = document.createElement("b");
    state.textContent = { waiting: words.wordsWaiting, sent: words.wordsSent, refused: words.wordsRefused }[report.state];
    item.dataset.state = report.state;
    item.append(text, state);
    if (report.state === "sent") {
      const link = document.createElement("a");
      link.href = report.url;
      link.textContent = words.wordsOpen + " " + report.receipt;
      item.append(" ", link);
    }
    if (report.state !== "waiting") {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "tool";
      button.textContent = words.wordsForget;
      button.addEventListener("click", async () => { await forget(report.message_id); await list(); });
      item.append(" ", button);
    }
    return item;
  }
  async function list() {
    const reports = await kept();
    const box = document.getElementById("kept");
    box.hidden = reports.length === 0;
    box.querySelector("ul").replaceChildren(...reports.map(entry));
  }

  async function post(report) {
    const fresh = await fetch("/report", { headers: { accept: "application/json" } });
    const token = (await fresh.json()).form_token;
    const { state, url, receipt, ...fields } = report;
    const answer = await fetch("/report", {
      method: "POST",
      headers: { accept: "application/json", "x-form-token": token },
      body: new URLSearchParams(fields),
    });
    if (answer.status === 202) return { ...report, ...(await answer.json()), state: "sent" };
    if (answer.status === 429 || answer.status >= 500 || answer.status === 403) throw new Error(String(answer.status));
    return { ...report, state: "refused" };
  }

  let sending = false;
  async function send() {
    if (sending) return;
    sending = true;
    try {
      for (const report of await kept()) {
        if (report.state === "waiting") await keep(await post(report));
      }
    } catch (_) {
      // Still no network, or told to wait: the next chance comes.
    } finally {
      sending = false;
      await list();
    }
  }

  const identity = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  const offline = document.getElementById("offline");
  function network() {
    offline.hidden = navigator.onLine;
    if (navigator.onLine) send();
  }

  if (window.isSecureContext && window.indexedDB) {
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const button = form.querySelector("button[type=submit]");
      if (button.disabled) return;
      button.disabled = true;
      const label = button.textContent;
      button.textContent = words.wordsSending;
      const report = Object.fromEntries([...new FormData(form)].filter(([name, value]) => value && name !== "form_token"));
      report.reported_at = new Date().toISOString();
      try {
        const done = await post({ ...report, state: "waiting" });
        if (done.state === "sent") { location.assign(done.url + "?new=1"); return; }
        throw new Error("refused");
      } catch (error) {
        if (error.message === "refused") { form.submit(); return; }
        await keep({ ...report, state: "waiting" });
        form.reset();
        for (const name of ["lat", "lon"]) field(name).value = "";
        field("message_id").value = identity();
        located.textContent = "";
        await list();
        document.getElementById("kept").scrollIntoView({ block: "nearest" });
      }
      button.disabled = false;
      button.textContent = label;
    });
    window.addEventListener("online", network);
    window.addEventListener("offline", network);
    document.addEventListener("visibilitychange", () => { if (!document.hidden) network(); });
    setInterval(network, 20000);
    network();
    list();
    if (navigator.serviceWorker) navigator.serviceWorker.register("/sw.js").catch(() => {});
  }
  // A page from the browser's memory would send an old id again.
  window.addEventListener("pageshow", (event) => { if (event.persisted) field("message_id").value = identity(); });
})();
