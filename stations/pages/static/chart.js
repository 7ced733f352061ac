// Incidents and tips by day. The figures stand in the page's table too.
"use strict";
(() => {
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  for (const element of document.querySelectorAll("[data-chart]")) {
    const data = JSON.parse(element.dataset.chart);
    const days = data.days.map((day) => Date.parse(day + "T00:00:00Z") / 1000);
    const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") } };
    const name = (seconds) => { const at = new Date(seconds * 1000); return `${at.getUTCMonth() + 1}-${String(at.getUTCDate()).padStart(2, "0")}`; };
    // Where nothing is pointed at, the legend tells of the last day.
    const figure = (_, count, series, at) => String(at == null ? [data.incidents, data.tips][series - 1].at(-1) : count);
    const named = (_, at) => new Date((at ?? days.at(-1)) * 1000).toISOString().slice(0, 10);
    const chart = new uPlot({
      width: element.clientWidth, height: 250, tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      cursor: { drag: { x: false, y: false } },
      scales: { y: { range: (_, __, most) => [0, Math.max(4, Math.ceil(most * 1.1))] } },
      axes: [{ ...axis, values: (_, at) => at.map(name), space: 60, incrs: [86400, 172800, 604800, 1209600, 2592000, 7776000] }, { ...axis, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 50000, 100000], size: 56 }],
      series: [
        { value: named, label: element.dataset.labelDay },
        { value: figure, label: element.dataset.labelIncidents, stroke: colour("--accent"), width: 2, fill: colour("--accent-soft"), points: { show: days.length < 40 } },
        { value: figure, label: element.dataset.labelTips, stroke: colour("--soon"), width: 1.5, dash: [5, 4], points: { show: false } },
      ],
    }, [days, data.incidents, data.tips], element);
    new ResizeObserver(() => chart.setSize({ width: element.clientWidth, height: 250 })).observe(element);
  }
})();
