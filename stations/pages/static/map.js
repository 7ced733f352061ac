// Maps from the county's own boundaries; tiles only from an address of the installation's own.
"use strict";
(() => {
  async function draw(element) {
    if (element.dataset.drawn) return;
    element.dataset.drawn = "1";
    const answer = await fetch(element.dataset.boundaries);
    if (!answer.ok) return;
    const shapes = await answer.json();
    const map = L.map(element, { attributionControl: false, zoomSnap: 0.25, keyboard: true });
    if (element.dataset.tiles) L.tileLayer(element.dataset.tiles).addTo(map);
    const area = element.dataset.area;
    let best = "";
    for (const { properties } of shapes.features) {
      if ((area === properties.area || area.startsWith(properties.area + "/")) && properties.area.length > best.length && properties.depth > 0) best = properties.area;
    }
    let target = null;
    const ordered = shapes.features.filter((f) => f.properties.depth <= 1 || f.properties.area === best).sort((a, b) => a.properties.depth - b.properties.depth);
    for (const feature of ordered) {
      const mine = feature.properties.area === best;
      const layer = L.geoJSON(feature, { style: { className: mine ? "here" : "land", weight: mine ? 2 : 1, fillOpacity: mine ? 0.35 : element.dataset.tiles ? 0 : 1 } }).addTo(map);
      if (feature.properties.depth === 1 || mine) layer.bindTooltip(() => { const name = document.createElement("span"); name.textContent = feature.properties.name; return name; }, { permanent: true, direction: "center", className: "name" });
      if (mine) target = layer;
    }
    const county = L.geoJSON({ type: "FeatureCollection", features: shapes.features.filter((f) => f.properties.depth === 1) });
    const points = JSON.parse(element.dataset.points || "[]");
    for (const point of points) L.circleMarker(point, { className: "point", radius: 7, weight: 2, fillOpacity: 1 }).addTo(map);
    const near = target && best.split("/").length > 2 ? target.getBounds().pad(1.5) : county.getBounds();
    const bounds = points.length && target ? target.getBounds().extend(L.latLngBounds(points)).pad(0.1) : near;
    if (bounds.isValid()) map.fitBounds(bounds);
    if (element.dataset.pick) pick(element, map);
  }

  function pick(element, map) {
    let dot = null;
    function put(lat, lon) {
      if (dot) dot.remove();
      dot = L.circleMarker([lat, lon], { className: "here", radius: 9, fillOpacity: 0.9 }).addTo(map);
    }
    map.on("click", (event) => {
      const { lat, lng } = event.latlng;
      put(lat, lng);
      element.dispatchEvent(new CustomEvent("tipline:picked", { detail: { lat, lon: lng } }));
    });
    element.addEventListener("tipline:put", (event) => put(event.detail.lat, event.detail.lon));
  }

  const all = () => { for (const element of document.querySelectorAll("[data-map]")) draw(element); };
  document.addEventListener("tipline:maps", all);
  all();
})();
