"use strict";
(() => {
  const { data } = shared;
  const body = document.querySelector("#table tbody");
  const rows = [...body.rows].map((element) => ({
    element,
    key: Number(element.id.slice("case-".length)),
    facets: JSON.parse(element.dataset.facets),
    text: `${element.dataset.case} ${element.textContent}`.toLowerCase(),
  }));
  const named = (fields, values) =>
    Object.fromEntries(fields.map((field, place) => [field, values[place]]));
  const records = data.records.map((values) => named(data.record_fields, values));
  const byKey = new Map(records.map((record) => [record.key, record]));
  const rounds = data.rounds.map((values) => {
    const own = named(data.round_fields, values);
    const { run, case: name, loop, model, optimizer, base } = byKey.get(own.key);
    return { run, case: name, loop, model, optimizer, base, ...own };
  });
  const charts = [];

  // ---- charts

  // On a phone the names on an axis are small, and leave half of the width to what is drawn.
  const axis = data.config.axis;
  if (window.innerWidth < 600) axis.labelFontSize = 11;
  axis.labelLimit = Math.min(axis.labelLimit, window.innerWidth / 2);

  const rootOf = (figure) => document.getElementById(`figure-${figure.name}`);

  function onScreen(figure) {
    const { top, bottom } = rootOf(figure).getBoundingClientRect();
    return top < window.innerHeight && bottom > 0;
  }

  // What was drawn is on the screen when the frame after it begins.
  const painted = () =>
    new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));

  async function draw(figure) {
    const root = rootOf(figure);
    const place = root.querySelector(".drawing");
    const spec = { ...figure.spec, datasets: { ...figure.spec.datasets, rows: records, rounds } };
    const options = {
      mode: "vega-lite", renderer: "svg", actions: false, config: data.config,
      tooltip: { theme: "custom" },
      // Expressions are interpreted, because the page's policy forbids eval.
      ast: true,
      // Errors only: a filter that leaves nothing to draw gives no warning.
      logLevel: 1,
    };
    const { view } = await vegaEmbed(place, spec, options);
    view.addEventListener("click", (_, item) => item && item.datum && find(item.datum.key));
    charts.push({ figure, root, view, signals: new Set(Object.keys(view.getState().signals)) });
  }

  async function signal(name, value) {
    const asked = charts.filter((chart) => chart.signals.has(name));
    await Promise.all(asked.map((chart) => chart.view.signal(name, value).runAsync()));
    asked.forEach(numbers);
  }

  function fitToPaper(printing) {
    document.body.classList.toggle("printing", printing);
    charts.forEach(({ root, view }) =>
      view.signal("width", root.querySelector(".drawing").clientWidth).run());
  }

  function find(key) {
    const row = rows.find((candidate) => candidate.key === key);
    if (!row) return;
    body.querySelectorAll(".found").forEach((element) => element.classList.remove("found"));
    row.element.classList.add("found");
    row.element.scrollIntoView({ block: "center" });
  }

  // ---- the numbers of a chart, for readers who cannot see it or use a mouse

  const MOST_NUMBERS = 500;

  function drawn(chart) {
    // The marks' own data: what was filtered, calculated and drawn.
    const found = new Map();
    const visit = (item) => {
      const datum = item.datum;
      if (datum && chart.figure.columns.every(([field]) => field in datum)) {
        found.set(chart.figure.columns.map(([field]) => datum[field]).join("\u0000"), datum);
      }
      (item.items || []).forEach(visit);
    };
    visit(chart.view.scenegraph().root);
    return [...found.values()];
  }

  function numbers(chart) {
    const place = chart.root.querySelector(".data");
    if (place.hidden) return;
    const all = drawn(chart);
    const columns = chart.figure.columns.filter(
      ([field]) => field !== "run" || new Set(all.map((datum) => datum.run)).size > 1);
    place.replaceChildren(shared.table(
      chart.root.querySelector("h3").textContent,
      columns.map(([, heading]) => heading),
      all.slice(0, MOST_NUMBERS).map((datum) => columns.map(([field]) => datum[field])),
      all.length > MOST_NUMBERS
        ? `The first ${MOST_NUMBERS} of ${all.length}; the run's folder has all.` : ""));
  }

  function toggleNumbers(chart, button) {
    shared.toggle(button, chart.root.querySelector(".data"));
    numbers(chart);
  }

  // ---- filters of the table and of all charts

  const filter = shared.filters(rows, async (kept, wanted) => {
    const shown = Object.fromEntries(kept.map((row) => [row.key, true]));
    const narrowed = ["batch_size", "precision"].some(
      (name) => wanted.has(data.filters.indexOf(name)));
    await signal("narrowed", narrowed);
    await signal("shown", kept.length === rows.length ? false : shown);
    offerCases(shown);
  });

  function offerCases(shown) {
    const select = document.querySelector(".one-case");
    if (!select) return;
    const before = select.value;
    const several = new Set(records.map((record) => record.run)).size > 1;
    const options = records.filter((record) => shown[record.key]).map((record) =>
      new Option(several ? `${record.run}: ${record.case}` : record.case, record.key));
    select.replaceChildren(...options);
    if (options.some((option) => option.value === before)) select.value = before;
    signal("one", options.length ? Number(select.value) : -1);
  }

  // ---- sorting

  function value(row, place) {
    const element = row.element.cells[place];
    return element.dataset.v ?? element.textContent;
  }

  function sort(head) {
    const place = head.cellIndex;
    const number = head.classList.contains("n");
    const up = head.getAttribute("aria-sort") === "none" ? !number
      : head.getAttribute("aria-sort") === "descending";
    for (const other of head.parentElement.cells) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const sign = up ? 1 : -1;
    const ordered = [...rows].sort((a, b) => {
      const [left, right] = [value(a, place), value(b, place)];
      // Empty values stay last in both directions.
      if (left === "" || right === "") return (left === "") - (right === "");
      return sign * (number ? Number(left) - Number(right) : left.localeCompare(right));
    });
    body.append(...ordered.map((row) => row.element));
  }

  // ---- columns

  function hideColumns() {
    const hidden = [...document.querySelectorAll("#columns input")].filter((box) => !box.checked);
    sheet.textContent = hidden
      .map((box) => `#table tr > :nth-child(${box.value}) { display: none; }`).join("\n");
  }

  const sheet = document.head.appendChild(document.createElement("style"));
  hideColumns();
  document.getElementById("columns").addEventListener("change", hideColumns);
  document.querySelectorAll("#table thead th").forEach((head) =>
    head.querySelector("button").addEventListener("click", () => sort(head)));
  document.querySelectorAll(".across").forEach((select) => select.addEventListener("change", () => {
    document.querySelectorAll(".across").forEach((other) => { other.value = select.value; });
    signal("across", select.value);
  }));
  document.querySelectorAll(".one-case").forEach((select) =>
    select.addEventListener("change", () => signal("one", Number(select.value))));
  document.querySelectorAll(".numbers").forEach((button) =>
    button.addEventListener("click", () => {
      const chart = charts.find((candidate) => candidate.root.contains(button));
      if (chart) toggleNumbers(chart, button);
    }));

  window.addEventListener("beforeprint", () => fitToPaper(true));
  window.addEventListener("afterprint", () => fitToPaper(false));

  (async () => {
    const [now, later] = [[], []];
    data.figures.forEach((figure) => (onScreen(figure) ? now : later).push(figure));
    for (const figure of now) await draw(figure);
    const shown = painted().then(() => {
      document.documentElement.dataset.drawn = String(Math.round(performance.now()));
    });
    // Nothing is painted while the page is in a tab behind another one.
    await Promise.race([shown, new Promise((done) => setTimeout(done, 1000))]);
    for (const figure of later) await draw(figure);
    // A browser may have kept what was chosen before the page was loaded again.
    await filter();
    document.documentElement.dataset.ready = "true";
  })();
})();
