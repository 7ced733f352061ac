// On every page: what only makes sense with a script appears, clocks count down, selections take effect at once.
"use strict";
(() => {
  const body = document.body;
  const started = Date.now();
  const skew = Number(body.dataset.now) - started;
  const now = () => Date.now() + skew;

  function span(ms) {
    const minutes = Math.floor(Math.abs(ms) / 60000);
    const d = Math.floor(minutes / 1440), h = Math.floor(minutes / 60) % 24, m = minutes % 60;
    if (minutes < 1) return body.dataset.spanMoment;
    if (d) return body.dataset.spanDays.replace("{d}", d).replace("{h}", h);
    if (h) return body.dataset.spanHours.replace("{h}", h).replace("{m}", String(m).padStart(2, "0"));
    return body.dataset.spanMinutes.replace("{m}", m);
  }

  function count() {
    for (const element of document.querySelectorAll("[data-due]")) {
      const left = Number(element.dataset.due) - now();
      const words = (left <= 0 ? body.dataset.dueLate : body.dataset.dueLeft).replace("{}", span(left));
      if (element.textContent !== words) element.textContent = words;
      element.classList.toggle("late", left <= 0);
      element.classList.toggle("soon", left > 0 && left < 3600000);
    }
  }

  function reveal(root) {
    for (const element of root.querySelectorAll(".scripted[hidden]")) element.hidden = false;
    for (const element of root.querySelectorAll(".unscripted")) element.hidden = true;
  }

  // A receipt's progress, fetched again while somebody looks: soon after the report, then now and then.
  async function again() {
    const part = document.querySelector("[data-again]");
    if (!part) return;
    if (!document.hidden) {
      const answer = await fetch(part.dataset.again).catch(() => null);
      const fresh = answer && answer.ok && new DOMParser().parseFromString(await answer.text(), "text/html").getElementById(part.id);
      if (fresh && fresh.textContent !== part.textContent) part.replaceWith(document.importNode(fresh, true));
    }
    setTimeout(again, 30000);
  }
  setTimeout(again, 2500);

  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-submit]")) event.target.form.requestSubmit();
  });
  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-print]")) window.print();
  });
  document.addEventListener("tipline:shown", () => { reveal(document); count(); });
  reveal(document);
  count();
  setInterval(count, 5000);
})();
