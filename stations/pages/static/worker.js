// Keeps the report page for when there is no network. KEPT, the list of files, stands above; nothing else is kept.
"use strict";
const SHELF = "tipline-" + KEPT.join("|");
self.addEventListener("install", (event) => {
  event.waitUntil(caches.open(SHELF).then((shelf) => shelf.addAll(KEPT)).then(() => self.skipWaiting()));
});
self.addEventListener("activate", (event) => {
  event.waitUntil(caches.keys()
    .then((names) => Promise.all(names.filter((name) => name.startsWith("tipline-") && name !== SHELF).map((name) => caches.delete(name))))
    .then(() => self.clients.claim()));
});
self.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  if (event.request.method !== "GET" || url.origin !== location.origin) return;
  const wanted = url.pathname + url.search;
  if (event.request.mode === "navigate" && url.pathname === "/") {
    // The newest page where there is a network; a copy of it, in the language last seen, where there is none.
    event.respondWith(fetch(event.request)
      .then((answer) => {
        if (answer.ok) { const copy = answer.clone(); event.waitUntil(caches.open(SHELF).then((shelf) => shelf.put("/", copy))); }
        return answer;
      })
      .catch(() => caches.match("/")));
  } else if (KEPT.includes(wanted) && wanted !== "/") {
    event.respondWith(caches.match(wanted).then((found) => found || fetch(event.request)));
  }
});
