(() => {
  const { data } = shared;
  const HEIGHT = 170, LEFT = 50, RIGHT = 8, TOP = 20, BOTTOM = 34;
  // Points of which a chart is crowded; from so many on the outermost hundredth may be cut off.
  const MANY = 150, CUT = 100;
  const MOST_NUMBERS = 500;
  const SVG = "http://www.w3.org/2000/svg";

  // ---- what is packed

  const bytes = (text) => Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0)).buffer;
  const floats = (text, length) =>
    text ? new Float32Array(bytes(text)) : new Float32Array(length).fill(NaN);

  for (const machine of data.machines) {
    let seconds = 0;
    machine.times = machine.began.map((passed) => (seconds += passed));
  }
  const every = data.machines.flatMap((machine) => [machine.times[0], machine.times.at(-1)]);
  const began = Math.min(...every), ended = Math.max(...every);

  // The figures of a series, unpacked when they are first needed.
  function figures(series) {
    if (series.points) return series.points;
    const machine = data.machines[series.machine];
    const at = series.at ? [...new Uint32Array(bytes(series.at))] : machine.ids.map((_, i) => i);
    const steps = series.half ? new Uint16Array(bytes(series.half)) : null;
    const half = at.map((_, i) => (steps && steps[i] !== 65535 ? steps[i] * 1e-4 : NaN));
    series.points = {
      machine, at, half,
      speed: floats(series.speed, at.length),
      score: floats(series.score, at.length),
      scoreHalf: floats(series.scoreHalf, at.length),
      ended: new Map(series.ended.map(([place, status]) => [place, data.statuses[status]])),
      diverged: new Set(series.diverged),
      warned: new Map(series.warned.map(([place, ...texts]) =>
        [place, texts.map((text) => data.warnings[text])])),
    };
    return series.points;
  }

  const cards = [...document.querySelectorAll("figure.trend")].map((element) => {
    const key = Number(element.id.slice("case-".length));
    return {
      key, element,
      drawing: element.querySelector(".drawing"),
      name: element.querySelector("h3").textContent,
      facets: JSON.parse(element.dataset.facets),
      text: element.textContent.toLowerCase(),
      series: data.series[key],
      here: -1,
    };
  });
  const byElement = new Map(cards.map((card) => [card.element, card]));
  const chosen = (id) => document.getElementById(id)?.value;
  const shows = () => chosen("what") ?? "speed";
  const marksOf = (card) => card.series.marks.filter(([what]) => what === shows());

  // ---- words

  const PREFIXES = [[1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""]];
  const two = (number) => String(number).padStart(2, "0");

  function day(seconds) {
    return new Date(seconds * 1000).toISOString().slice(0, 10);
  }

  function minute(seconds) {
    return new Date(seconds * 1000).toISOString().slice(0, 16).replace("T", " ");
  }

  function percent(log) {
    return `${(100 * Math.expm1(log)).toFixed(1)}%`;
  }

  // What of the environment differs between two runs that both recorded it.
  function changed(machine, before, after) {
    if (machine.environment[before] === machine.environment[after]) return [];
    const facts = (run) =>
      new Map(data.environments[machine.environment[run]][1].map((fact) => data.facts[fact]));
    const ours = facts(before);
    return [...facts(after)]
      .filter(([name, value]) => ours.has(name) && ours.get(name) !== value)
      .map(([name, value]) => `${name} ${ours.get(name)} -> ${value}`);
  }

  function speedOf(points, i) {
    if (!Number.isFinite(points.speed[i])) return points.ended.get(i) ?? "none";
    const half = Number.isFinite(points.half[i]) ? ` ±${percent(points.half[i])}` : "";
    return `${Math.round(points.speed[i]).toLocaleString("en")}${half}`;
  }

  function scoreOf(points, i) {
    if (points.diverged.has(i)) return "diverged";
    if (!Number.isFinite(points.score[i])) return "";
    const half = points.scoreHalf[i];
    return points.score[i].toPrecision(4) + (half >= 0 ? ` ±${half.toPrecision(2)}` : "");
  }

  // [what, text] of a point, for the eye and for a screen reader.
  function told(card, i) {
    const points = figures(card.series), { machine } = points, run = points.at[i];
    const label = machine.labels[machine.label[run]];
    const before = i > 0 ? changed(machine, points.at[i - 1], run) : [];
    const lines = [
      ["began", `${minute(machine.times[run])} UTC`],
      ["run", machine.ids[run] + (label ? ` ${label}` : "")],
      ["commit", machine.commits[machine.commit[run]] || "not known"],
      ["samples/s", speedOf(points, i)],
      [card.series.scoreName, scoreOf(points, i)],
      ["environment", data.environments[machine.environment[run]][0]],
      ["new in it", before.join("; ")],
      ["warnings", (points.warned.get(i) ?? []).join("; ")],
    ];
    for (const [, , first, , , , , text] of marksOf(card).filter((mark) => mark[2] === i)) {
      lines.push(["change", text]);
    }
    return lines.filter(([, text]) => text);
  }

  // ---- scales

  function nice(step) {
    const power = 10 ** Math.floor(Math.log10(step));
    return power * [1, 2, 5, 10].find((digit) => digit * power >= step * 0.999);
  }

  // A score of a user's own has any size.
  function short(value, step) {
    const size = Math.abs(value);
    if (size < step * 1e-6) return "0";
    if (size < 1e-3 || size >= 1e12) {
      const digits = Math.floor(Math.log10(size)) - Math.floor(Math.log10(step) + 1e-9);
      return value.toExponential(Math.max(0, Math.min(3, digits)));
    }
    const [factor, prefix] = PREFIXES.find(([least]) => Math.abs(value) >= least) ?? PREFIXES[3];
    const digits = Math.max(0, Math.min(8, -Math.floor(Math.log10(step / factor) + 1e-9)));
    return (value / factor).toFixed(digits) + prefix;
  }

  // The ends of what is drawn, of values as they are placed (logarithms of speeds).
  function limits(values, levels, least) {
    const sorted = Float64Array.from(values.filter(Number.isFinite)).sort();
    if (!sorted.length) return null;
    const cut = sorted.length >= CUT ? Math.floor(sorted.length / 100) : 0;
    const low = Math.min(sorted[cut], ...levels);
    const high = Math.max(sorted[sorted.length - 1 - cut], ...levels);
    const room = Math.max(0.08 * (high - low), (least - (high - low)) / 2);
    return [low - room, high + room];
  }

  function ticks(low, high) {
    if (high / low > 8 && low > 0) {
      const found = [];
      const digits = high / low > 100 ? [1] : [1, 2, 5];
      for (let power = 10 ** Math.floor(Math.log10(low)); power <= high; power *= 10) {
        found.push(...digits.map((digit) => digit * power));
      }
      return found.filter((tick) => tick >= low && tick <= high)
        .map((tick) => [tick, short(tick, tick)]);
    }
    const step = nice((high - low) / 4.5), found = [];
    for (let tick = Math.ceil(low / step) * step; tick <= high; tick += step) found.push(tick);
    return found.map((tick) => [tick, short(tick, step)]);
  }

  // ---- drawing

  function put(parent, name, attributes, text) {
    const element = document.createElementNS(SVG, name);
    Object.entries(attributes).forEach(([key, value]) => element.setAttribute(key, value));
    if (text !== undefined) element.textContent = text;
    parent.append(element);
    return element;
  }

  function places(points, width) {
    const span = width - LEFT - RIGHT - 8;
    const runs = chosen("across") === "runs";
    const last = points.machine.ids.length - 1;
    const share = (run) => (runs ? (last ? run / last : 0.5)
      : ended > began ? (points.machine.times[run] - began) / (ended - began) : 0.5);
    return points.at.map((run) => LEFT + 4 + span * share(run));
  }

  function days(svg, points, width) {
    const runs = chosen("across") === "runs", { times } = points.machine;
    const ends = runs ? [times[0], times.at(-1)] : [began, ended];
    const middle = runs ? times[Math.floor((times.length - 1) / 2)] : (began + ended) / 2;
    const shown = ends[1] - ends[0] < 2 * 86400 ? (time) => minute(time).slice(5) : day;
    const y = HEIGHT - 4;
    put(svg, "text", { x: LEFT, y }, shown(ends[0]));
    if (shown(ends[1]) === shown(ends[0])) return;
    put(svg, "text", { x: width - RIGHT, y, "text-anchor": "end" }, shown(ends[1]));
    if (width > 260 && times.length > 2) {
      put(svg, "text", { x: (LEFT + width - RIGHT) / 2, y, "text-anchor": "middle" }, shown(middle));
    }
  }

  function drawMarks(svg, card, xs) {
    let free = -Infinity;
    const bottom = HEIGHT - BOTTOM;
    for (const [, kind, first, low, high, worse, sign] of marksOf(card)) {
      const x = (xs[first] + xs[Math.max(0, first - 1)]) / 2;
      const [from, to] = [xs[low], xs[high]];
      put(svg, "rect", {
        class: "between", x: from, y: TOP, width: Math.max(1, to - from), height: bottom - TOP,
      });
      put(svg, "path", { class: `line ${kind}`, d: `M${x} ${TOP - 4}V${bottom}` });
      const down = worse ? 1 : -1;
      put(svg, "path", {
        class: `badge ${kind}`, d: `M${x - 5} ${11 - 4 * down}h10l-5 ${8 * down}z`,
      });
      if (x + 8 > free) {
        const known = kind === "known" ? "✓" : "";
        const beside = x > xs.at(-1) - 34 && x > 100
          ? { x: x - 8, "text-anchor": "end" } : { x: x + 8 };
        put(svg, "text", { class: "sign", y: 14, ...beside }, sign + known);
        free = x + 8 + 9 * (sign.length + known.length) + 8;
      }
    }
  }

  function draw(card) {
    const points = figures(card.series), { drawing } = card;
    const width = Math.max(200, Math.round(drawing.clientWidth));
    const speed = shows() === "speed";
    const place = speed ? Math.log : (value) => value;
    const values = [...points[shows()]].map(place);
    const half = speed ? points.half : points.scoreHalf;
    const levels = card.series.levels[shows()].map(([from, to, value]) => [from, to, place(value)]);
    const heights = levels.map(([, , value]) => value);
    const least = speed ? 0.06 : 0.01 * Math.max(...heights.map(Math.abs)) || 0.01;
    const ends = limits(values, heights, least);
    card.xs = places(points, width);
    card.ys = card.bars = null;
    drawing.replaceChildren();
    drawing.setAttribute("aria-description",
      `${values.length} runs; ${marksOf(card).length} changes; arrow keys go along the runs`);
    const svg = put(drawing, "svg", {
      viewBox: `0 0 ${width} ${HEIGHT}`, "aria-hidden": "true",
      class: values.length > MANY ? "many" : "few",
    });
    const bottom = HEIGHT - BOTTOM, right = width - RIGHT;
    if (ends) drawValues(svg, card, { values, half, levels, ends, place, speed, width });
    else {
      put(svg, "text", { x: (LEFT + right) / 2, y: HEIGHT / 2, "text-anchor": "middle" },
        speed ? "no run ended ok" : "no score");
    }
    put(svg, "path", { class: "frame", d: `M${LEFT} ${bottom}H${right}` });
    let failed = "", other = "";
    points.at.forEach((run, i) => {
      const x = card.xs[i].toFixed(1);
      if (!Number.isFinite(values[i])) failed += `M${x - 3} ${bottom - 8}l6 6m0 -6l-6 6`;
      if (i && changed(points.machine, points.at[i - 1], run).length) other += `M${x} ${bottom + 2}v7`;
    });
    put(svg, "path", { class: "failed", d: failed });
    put(svg, "path", { class: "environment", d: other });
    days(svg, points, width);
    drawMarks(svg, card, card.xs);
  }

  function drawValues(svg, card, { values, half, levels, ends, place, speed, width }) {
    const points = figures(card.series);
    const bottom = HEIGHT - BOTTOM, right = width - RIGHT;
    const [low, high] = ends;
    const height = (value) => TOP + 4 + (bottom - TOP - 8) * (high - value) / (high - low);
    const inside = (y) => Math.min(bottom - 4, Math.max(TOP + 4, y));
    const back = speed ? Math.exp : (value) => value;
    for (const [tick, text] of ticks(back(low), back(high))) {
      const y = height(place(tick));
      put(svg, "path", { class: "rule", d: `M${LEFT} ${y.toFixed(1)}H${right}` });
      put(svg, "text", { x: LEFT - 5, y: y + 4, "text-anchor": "end" }, text);
    }
    let dots = "", holes = "", beyond = "";
    card.bars = [];
    card.ys = values.map((value, i) => {
      if (!Number.isFinite(value)) return NaN;
      const x = card.xs[i].toFixed(1), raw = height(value), y = inside(raw);
      if (Math.abs(y - raw) > 0.5) {
        const down = raw > y ? 1 : -1;
        beyond += `M${x - 3} ${(y - 2 * down).toFixed(1)}l3 ${4 * down}l3 ${-4 * down}`;
      } else {
        dots += `M${x} ${y.toFixed(1)}h.01`;
        if (points.warned.has(i)) holes += `M${x} ${y.toFixed(1)}h.01`;
      }
      if (half[i] > 0) {
        const [up, under] = [height(value + half[i]), height(value - half[i])].map(inside);
        card.bars[i] = `M${x} ${up.toFixed(1)}V${under.toFixed(1)}`;
      }
      return y;
    });
    put(svg, "path", { class: "half", d: card.bars.join("") });
    put(svg, "path", { class: "dots", d: dots });
    put(svg, "path", { class: "holes", d: holes });
    put(svg, "path", { class: "beyond", d: beyond });
    const lines = levels.map(([from, to, value]) => {
      const y = inside(height(value)).toFixed(1);
      return `M${card.xs[from].toFixed(1)} ${y}H${card.xs[to - 1].toFixed(1)}`;
    });
    if (levels.length) put(svg, "path", { class: "level", d: lines.join("") });
  }

  const drawn = new Set();
  const watch = new IntersectionObserver((entries) => {
    entries.filter((entry) => entry.isIntersecting).forEach(({ target }) => {
      const card = byElement.get(target);
      if (!drawn.has(card)) draw(card);
      drawn.add(card);
    });
    ready();
  }, { rootMargin: "300px" });

  function ready() {
    if (document.documentElement.dataset.ready) return;
    // The frame with what was drawn is on the screen when the one after it begins.
    requestAnimationFrame(() => requestAnimationFrame(() => {
      document.documentElement.dataset.drawn ??= String(Math.round(performance.now()));
      document.documentElement.dataset.ready = "true";
    }));
  }

  function again() {
    hide();
    drawn.clear();
    watch.disconnect();
    cards.forEach((card) => watch.observe(card.element));
  }

  // ---- one run: hover and keyboard

  const box = document.getElementById("told");

  function point(card, i) {
    card.here = i;
    const svg = card.drawing.querySelector("svg");
    svg.querySelector(".here")?.remove();
    const x = card.xs[i].toFixed(1), y = card.ys?.[i], bottom = HEIGHT - BOTTOM;
    const ring = Number.isFinite(y) ? `M${x - 5} ${y}a5 5 0 1 0 10 0a5 5 0 1 0 -10 0` : "";
    const bar = card.bars?.[i] ?? "";
    put(svg, "path", { class: "here", d: `M${x} ${bottom}v5${ring}${bar}` });
  }

  function show(card, i, spoken) {
    if (!drawn.has(card)) draw(card);
    drawn.add(card);
    point(card, i);
    const lines = told(card, i);
    // Of a mouse that moves, a screen reader would say each run on its way.
    if (spoken) {
      document.getElementById("spoken").textContent =
        lines.map(([what, text]) => `${what} ${text}`).join(". ");
    }
    box.replaceChildren(...lines.map(([what, text]) => {
      const line = document.createElement("p"), name = document.createElement("span");
      name.textContent = `${what} `;
      line.append(name, text);
      return line;
    }));
    box.hidden = false;
    const around = card.drawing.getBoundingClientRect();
    const scale = around.width / card.drawing.querySelector("svg").viewBox.baseVal.width;
    const x = around.left + card.xs[i] * scale;
    const left = x + 12 + box.offsetWidth > document.documentElement.clientWidth
      ? x - 12 - box.offsetWidth : x + 12;
    const below = around.bottom + 4;
    const top = below + box.offsetHeight > window.innerHeight
      ? around.top - 4 - box.offsetHeight : below;
    box.style.left = `${Math.max(4, left)}px`;
    box.style.top = `${Math.max(4, top)}px`;
  }

  function hide() {
    box.hidden = true;
    document.querySelectorAll(".here").forEach((element) => element.remove());
  }

  function nearest(card, x) {
    let [low, high] = [0, card.xs.length - 1];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (card.xs[middle] < x) low = middle; else high = middle;
    }
    return Math.abs(card.xs[low] - x) < Math.abs(card.xs[high] - x) ? low : high;
  }

  function byPointer(card, event) {
    if (!drawn.has(card)) return;
    const around = card.drawing.getBoundingClientRect();
    const scale = card.drawing.querySelector("svg").viewBox.baseVal.width / around.width;
    show(card, nearest(card, (event.clientX - around.left) * scale), false);
  }

  function byKey(card, event) {
    const last = card.series.at === null
      ? data.machines[card.series.machine].ids.length - 1 : figures(card.series).at.length - 1;
    const here = card.here < 0 ? last + 1 : card.here;
    const firsts = marksOf(card).map((mark) => mark[2]);
    const next = {
      ArrowLeft: here - 1, ArrowRight: here + 1, PageUp: here - 10, PageDown: here + 10,
      Home: 0, End: last,
      c: firsts.find((first) => card.here < first) ?? firsts[0],
      C: firsts.findLast((first) => first < here) ?? firsts.at(-1),
    }[event.key];
    if (event.key === "Escape") hide();
    if (next === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    show(card, Math.min(last, Math.max(0, next)), true);
  }

  // ---- numbers

  function numbers(card, button) {
    const place = card.element.querySelector(".data");
    shared.toggle(button, place);
    if (place.hidden) return;
    const points = figures(card.series), { machine } = points;
    const first = Math.max(0, points.at.length - MOST_NUMBERS);
    const lines = points.at.slice(first).map((run, offset) => {
      const i = first + offset;
      const marks = card.series.marks.filter((mark) => mark[2] === i).map((mark) => mark[7]);
      const notes = [
        ...marks,
        ...(i ? changed(machine, points.at[i - 1], run) : []),
        ...(points.warned.get(i) ?? []),
      ];
      return [minute(machine.times[run]), machine.ids[run], machine.commits[machine.commit[run]],
        speedOf(points, i), scoreOf(points, i), notes.join("; ")];
    });
    place.replaceChildren(shared.table(
      card.name, ["began (UTC)", "run", "commit", "samples/s", card.series.scoreName, "notes"],
      lines.reverse(),
      first ? `The last ${MOST_NUMBERS} of ${points.at.length}; history show has all.` : ""));
  }

  // ---- order and filters

  const grid = document.querySelector(".trends");
  const compare = (left, right) => (left < right ? 1 : left > right ? -1 : 0);
  const ORDERS = {
    new: (a, b) => a.key - b.key,
    newest: (a, b) => compare(a.series.order[1], b.series.order[1]) || a.key - b.key,
    largest: (a, b) => compare(a.series.order[2], b.series.order[2]) || a.key - b.key,
    name: (a, b) => a.name.localeCompare(b.name) || a.key - b.key,
  };

  function order() {
    grid.append(...[...cards].sort(ORDERS[chosen("order")]).map((card) => card.element));
  }

  const filter = shared.filters(cards, hide);
  document.getElementById("order").addEventListener("change", order);
  document.getElementById("across").addEventListener("change", again);
  document.getElementById("what")?.addEventListener("change", again);

  cards.forEach((card) => {
    const { drawing } = card;
    drawing.addEventListener("pointermove", (event) => byPointer(card, event));
    drawing.addEventListener("pointerdown", (event) => byPointer(card, event));
    // A finger leaves when it is lifted, and its reader begins to read then.
    drawing.addEventListener("pointerleave", (event) => event.pointerType !== "touch" && hide());
    drawing.addEventListener("blur", hide);
    drawing.addEventListener("keydown", (event) => byKey(card, event));
    const button = card.element.querySelector(".numbers");
    button.addEventListener("click", () => numbers(card, button));
  });

  // A link to a chart that the filters hide shows all again.
  document.querySelectorAll('#changes a[href^="#case-"]').forEach((link) =>
    link.addEventListener("click", () => {
      if (document.querySelector(link.getAttribute("href")).hidden) {
        document.getElementById("filters").reset();
        // At once: the browser scrolls to nothing that is still hidden.
        filter();
      }
    }));

  let width = window.innerWidth, waiting = 0;
  window.addEventListener("resize", () => {
    if (window.innerWidth === width) return;
    width = window.innerWidth;
    clearTimeout(waiting);
    waiting = setTimeout(again, 100);
  });
  window.addEventListener("scroll", hide, { passive: true });
  window.addEventListener("beforeprint", () => {
    document.body.classList.add("printing");
    cards.filter((card) => !card.element.hidden).forEach(draw);
  });
  window.addEventListener("afterprint", () => {
    document.body.classList.remove("printing");
    again();
  });

  // A browser may have kept what was chosen before the page was loaded again.
  filter();
  order();
  again();
})();
