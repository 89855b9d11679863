"use strict";
// What the scripts of all pages need: data, theme, filters, and the numbers of a chart as a table.
const shared = (() => {
  const data = JSON.parse(document.getElementById("data").textContent);

  // ---- the numbers of a chart, for readers who cannot see it or use a mouse

  function shortly(value) {
    if (value === null || value === undefined) return "";
    if (typeof value === "boolean") return value ? "yes" : "";
    if (typeof value !== "number") return String(value);
    return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(5)));
  }

  function cell(row, kind, value) {
    const element = document.createElement(kind);
    element.textContent = shortly(value);
    if (typeof value === "number") element.className = "n";
    if (kind === "th") element.scope = "col";
    row.append(element);
  }

  function table(label, headings, lines, caption) {
    const element = document.createElement("table");
    element.setAttribute("aria-label", label);
    const head = element.createTHead().insertRow();
    headings.forEach((heading) => cell(head, "th", heading));
    const rows = element.createTBody();
    lines.forEach((values) => {
      const row = rows.insertRow();
      values.forEach((value) => cell(row, "td", value));
    });
    if (caption) element.createCaption().textContent = caption;
    return element;
  }

  function toggle(button, place) {
    place.hidden = !place.hidden;
    button.setAttribute("aria-expanded", String(!place.hidden));
    button.textContent = place.hidden ? "Show the numbers" : "Hide the numbers";
  }

  // ---- filters: each row has an element, its facets in the order of data.filters, and its text

  function filters(rows, changed) {
    const form = document.getElementById("filters");
    const search = document.getElementById("search");
    const told = document.getElementById("count");

    function chosen() {
      const wanted = new Map();
      form.querySelectorAll("select").forEach((select) => {
        if (select.value) wanted.set(data.filters.indexOf(select.name), new Set([select.value]));
      });
      const loops = [...form.querySelectorAll("[name=loop]")];
      if (loops.some((box) => !box.checked)) {
        const kept = loops.filter((box) => box.checked).map((box) => box.value);
        wanted.set(data.filters.indexOf("loop"), new Set(kept));
      }
      return wanted;
    }

    function filter() {
      const wanted = chosen();
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      const kept = rows.filter((row) => {
        const fits = [...wanted].every(([place, values]) => values.has(row.facets[place]))
          && words.every((word) => row.text.includes(word));
        row.element.hidden = !fits;
        return fits;
      });
      told.textContent = `${kept.length} of ${rows.length} ${told.dataset.of}`;
      return changed(kept, wanted);
    }

    form.addEventListener("change", filter);
    search.addEventListener("input", filter);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", () => setTimeout(filter));
    return filter;
  }

  // ---- theme

  const THEMES = { "": "as the system", light: "light", dark: "dark" };
  const button = document.getElementById("theme");
  button.addEventListener("click", () => {
    const names = Object.keys(THEMES);
    const now = document.documentElement.dataset.theme || "";
    const next = names[(names.indexOf(now) + 1) % names.length];
    document.documentElement.dataset.theme = next;
    button.textContent = `Theme: ${THEMES[next]}`;
  });

  return { data, filters, table, toggle };
})();
