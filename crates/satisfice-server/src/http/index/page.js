// The token is kept by this tab alone, and travels in a header: it is never part of an address.
const KEY = "satisfice-token";
const form = document.querySelector("form");
const note = document.querySelector("output");
const forget = document.querySelector("#forget");
let token = null;

function ask(path, accept) {
  const headers = { Accept: accept };
  if (token) headers.Authorization = `Bearer ${token}`;
  return fetch(path, { headers, cache: "no-store" });
}

async function show(given) {
  let answer;
  token = given;
  try {
    answer = await ask("/", "text/html");
  } catch (error) {
    note.textContent = `The request was not answered: ${error.message}`;
    return;
  }
  if (!answer.ok) {
    token = null;
    sessionStorage.removeItem(KEY);
    note.textContent = answer.status === 401 ? "The server does not know this token." : `The server answered ${answer.status}.`;
    return;
  }
  sessionStorage.setItem(KEY, token);
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  document.querySelector("main").replaceWith(page.querySelector("main"));
  note.textContent = "";
  form.hidden = true;
  forget.hidden = false;
  watch();
}

if (form) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    show(form.elements.token.value.trim());
  });
  forget.addEventListener("click", () => {
    sessionStorage.removeItem(KEY);
    location.reload();
  });
  const kept = sessionStorage.getItem(KEY);
  if (kept) show(kept);
} else {
  watch();
}

// What the models do, drawn from the server's own history.

const RANGES = { "10m": 600, "2h": 7200, "24h": 86400 };
const COLUMNS = ["at_ms", "answered", "kept", "late", "refused", "failed", "waiting", "durations", "by_plan", "audits"];
const WIDTH = 320;
const HEIGHT = 150;
const LEFT = 54;
const BOTTOM = 18;
const TOP = 20;
const SVG = new DOMParser().parseFromString("<svg></svg>", "text/html").querySelector("svg").namespaceURI;

function element(name, attributes = {}, children = [], space = null) {
  const made = space ? document.createElementNS(space, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const svg = (name, attributes, children) => element(name, attributes, children, SVG);

function short(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e6) return `${(value / 1e6).toPrecision(3)} M`;
  if (size >= 1e4) return `${Math.round(value / 1e3)} k`;
  return size >= 100 ? value.toFixed(0) : Number(value.toPrecision(3)).toString();
}

const percent = (share) => `${(100 * share).toFixed(share > 0.999 && share < 1 ? 2 : 1)} %`;

function watch() {
  const main = document.querySelector("main");
  const bar = main.querySelector(".bar");
  if (!bar) return;
  const state = bar.querySelector("#state");
  const models = new Map();
  let range = "10m";
  let round = 0;

  bar.addEventListener("change", (event) => {
    range = event.target.value;
    models.clear();
    look();
  });

  async function look() {
    const mine = ++round;
    const last = [...models.values()].map((model) => model.at_ms.at(-1) ?? 0);
    const since = last.length ? Math.min(...last) : 0;
    try {
      const answer = await ask(`/v2/history?range=${range}&since_ms=${since}`, "application/json");
      if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
      const history = await answer.json();
      if (mine !== round) return;
      state.textContent = `${history.state}, up ${duration(history.uptime_s)}`;
      for (const model of history.models) {
        const name = `${model.name}/${model.version}`;
        const known = join(models.get(name), model, RANGES[history.range] / history.step_s + 1);
        known.asked = known.asked && Date.now() - known.asked.at < 10000 ? known.asked : await plans(model);
        models.set(name, known);
        if (mine !== round) return;
        const place = main.querySelector(`[data-model="${model.name}"][data-version="${model.version}"]`);
        if (place) draw(place, known, history.bounds_ms);
      }
    } catch (error) {
      if (mine === round) state.textContent = `not reached: ${error.message}`;
    }
    if (mine === round) setTimeout(() => mine === round && look(), document.hidden ? 10000 : 2000);
  }
  look();
}

async function plans(model) {
  const answer = await ask(`/v2/models/${model.name}/versions/${model.version}/plans`, "application/json");
  const found = answer.ok ? await answer.json() : { plans: [] };
  return { at: Date.now(), plans: found.plans, of: found.predicted_for };
}

function duration(seconds) {
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const [size, unit] = parts.find(([size]) => seconds >= size) ?? parts.at(-1);
  return `${Math.floor(seconds / size)} ${unit}`;
}

// What was known, and what is new.
function join(known, model, points) {
  const last = known?.at_ms.at(-1) ?? 0;
  const from = model.at_ms.findIndex((at) => at > last);
  const joined = { ...known, ...model };
  for (const column of COLUMNS) {
    const fresh = from < 0 ? [] : model[column].slice(from);
    joined[column] = [...(known?.[column] ?? []), ...fresh].slice(-points);
  }
  return joined;
}

// Differences of a counter from point to point; a counter that fell began anew.
const steps = (counts) => counts.slice(1).map((count, at) => Math.max(0, count - counts[at]));
const sum = (counts) => counts.reduce((all, count) => all + count, 0);

function quantile(durations, share, bounds) {
  const all = durations.at(-1);
  if (!all) return null;
  const at = durations.findIndex((count) => count >= share * all);
  return at < bounds.length ? bounds[at] : 2 * bounds.at(-1);
}

function draw(place, model, bounds) {
  const at = model.at_ms.slice(1);
  const seconds = model.at_ms.slice(1).map((ms, index) => Math.max((ms - model.at_ms[index]) / 1000, 1e-3));
  const rate = (counts) => steps(counts).map((count, index) => count / seconds[index]);
  const between = model.durations.slice(1).map((now, index) => now.map((count, bin) => Math.max(0, count - model.durations[index][bin])));
  const kept = steps(model.kept);
  const late = steps(model.late);
  const refused = steps(model.refused);
  const shareKept = kept.map((count, index) => {
    const all = count + late[index] + refused[index];
    return all ? count / all : null;
  });
  const charts = [
    plane(model),
    lines("Requests a second", at, [["answered", rate(model.answered)], ["refused", rate(model.refused)], ["failed", rate(model.failed)]], short),
    lines("Deadlines kept, refused requests counted too", at, [["kept", shareKept]], percent, [0, 1]),
    lines("Time of answered requests, at most (ms)", at, [["p50", between.map((d) => quantile(d, 0.5, bounds))], ["p99", between.map((d) => quantile(d, 0.99, bounds))]], short),
    lines("Requests in the queue", at, [["waiting", model.waiting.slice(1)]], short),
    audited(model, at),
  ];
  const open = new Set([...place.querySelectorAll("details[open]")].map((details) => details.dataset.of));
  const focused = document.activeElement?.closest?.("details")?.dataset.of;
  place.replaceChildren(...charts.filter(Boolean), ...engine(model));
  for (const details of place.querySelectorAll("details")) {
    details.open = open.has(details.dataset.of);
    if (details.dataset.of === focused) details.querySelector("summary").focus();
  }
}

// The numbers behind a chart, for who would rather read.
function table(of, head, rows) {
  const line = (cells, cell) => element("tr", {}, cells.map((text, at) => element(cell, at ? { class: "n" } : {}, [String(text)])));
  const summary = element("summary", {}, ["as a table"]);
  const body = element("table", {}, [element("thead", {}, [line(head, "th")]), element("tbody", {}, rows.map((row) => line(row, "td")))]);
  return element("details", { "data-of": of }, [summary, element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": of }, [body])]);
}

function frame(title, described, marks, extra) {
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title}: ${described}` }, marks);
  const pictures = marks.length ? [picture] : [];
  return element("figure", {}, [element("h3", {}, [title]), ...pictures, element("figcaption", {}, [described]), ...extra]);
}

const across = (share) => LEFT + share * (WIDTH - LEFT - 8);
const up = (share) => HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP);

function axes(low, high, label) {
  return [0, 0.5, 1].flatMap((share) => [
    svg("line", { class: "axis", x1: LEFT, x2: WIDTH - 8, y1: up(share), y2: up(share) }),
    svg("text", { x: LEFT - 4, y: up(share) + 4, "text-anchor": "end" }, [label(low + share * (high - low))]),
  ]);
}

function key(names) {
  const items = names.map((name, at) =>
    element("li", {}, [svg("svg", { viewBox: "0 0 26 10", "aria-hidden": "true" }, [svg("path", { class: `line s${at % 5} d${at % 4}`, d: "M1 5H25" })]), name]));
  return element("ul", { class: "key" }, items);
}

const clock = (ms) => new Date(ms).toLocaleTimeString();

function lines(title, at, series, label, limits) {
  const values = series.flatMap(([, points]) => points.filter((value) => value !== null));
  if (!at.length || !values.length) return frame(title, "nothing yet", [], []);
  const [low, high] = limits ?? [0, Math.max(...values) || 1];
  const [first, last] = [at[0], at.at(-1)];
  const x = (ms) => across(last > first ? (ms - first) / (last - first) : 1);
  const y = (value) => up((value - low) / (high - low || 1));
  const marks = axes(low, high, label);
  series.forEach(([, points], index) => {
    let path = "";
    let pen = "M";
    points.forEach((value, point) => {
      if (value === null) return;
      path += `${pen}${x(at[point]).toFixed(1)} ${y(value).toFixed(1)}`;
      pen = "L";
    });
    if (path) marks.push(svg("path", { class: `line s${index % 5} d${index % 4}`, d: path }));
  });
  marks.push(svg("text", { x: LEFT, y: HEIGHT - 4 }, [clock(first)]), svg("text", { x: WIDTH - 8, y: HEIGHT - 4, "text-anchor": "end" }, [clock(last)]));
  const now = series.map(([name, points]) => {
    const value = points.findLast((point) => point !== null);
    return `${name} ${value === undefined ? "-" : label(value)}`;
  });
  const rows = at.map((ms, point) => [clock(ms), ...series.map(([, points]) => (points[point] === null ? "-" : label(points[point])))]).reverse().slice(0, 60);
  const extra = [key(series.map(([name]) => name)), table(title, ["time", ...series.map(([name]) => name)], rows)];
  return frame(title, `last ${now.join(", ")}`, marks, extra);
}

// Quality against predicted time, with the share of the answers that each plan gave in the range.
function plane(model) {
  const title = "Plans: promise against predicted time";
  const offered = model.asked?.plans ?? [];
  const measure = ["accuracy", "fidelity"].find((name) => offered.some((plan) => plan.promises[name]));
  const placed = offered.filter((plan) => plan.promises[measure] && plan.predicted_ms > 0);
  if (!placed.length) return frame(title, "nothing was measured of this model's plans: satisfice profile does", [], []);
  const now = model.by_plan.at(-1) ?? [];
  const then = model.by_plan[0] ?? [];
  const answers = new Map(model.plans.map((plan, at) => [plan, Math.max(0, (now[at] ?? 0) - (then[at] ?? 0))]));
  const all = sum([...answers.values()]);
  const share = (plan) => (all ? (answers.get(plan.plan) ?? 0) / all : 0);
  const promise = (plan) => plan.promises[measure].lower_bound;
  const times = placed.map((plan) => Math.log10(plan.predicted_ms));
  const [least, most] = [Math.min(...times), Math.max(...times)];
  const low = Math.min(...placed.map(promise), 0.99);
  const marks = axes(low, 1, percent);
  placed.forEach((plan, at) => {
    const x = across(most > least ? 0.05 + 0.85 * ((times[at] - least) / (most - least)) : 0.5);
    const y = up((promise(plan) - low) / (1 - low || 1));
    const title = svg("title", {}, [`${plan.plan}: ${short(plan.predicted_ms)} ms, ${percent(promise(plan))}, ${percent(share(plan))} of answers`]);
    marks.push(svg("circle", { class: `s${at % 5}`, cx: x, cy: y, r: 3 + 14 * Math.sqrt(share(plan)) }, [title]));
    if (share(plan) >= 0.1) marks.push(svg("text", { x, y: y - 8 - 14 * Math.sqrt(share(plan)), "text-anchor": "middle" }, [plan.plan]));
  });
  marks.push(svg("text", { x: LEFT, y: HEIGHT - 4 }, [`${short(10 ** least)} ms`]), svg("text", { x: WIDTH - 8, y: HEIGHT - 4, "text-anchor": "end" }, [`${short(10 ** most)} ms`]));
  const rows = placed.map((plan) => [plan.plan, short(plan.predicted_ms), percent(promise(plan)), percent(share(plan))]);
  const busiest = placed.reduce((a, b) => (share(b) > share(a) ? b : a));
  const described = `${measure} that is promised for ${model.asked.of}; ${all ? `${busiest.plan} gave ${percent(share(busiest))} of ${short(all)} answers` : "no answers in this range"}`;
  return frame(title, described, marks, [table(title, ["plan", "ms", measure, "answers"], rows)]);
}

function audited(model, at) {
  const seen = model.plans.map((name, plan) => [name, plan]).filter(([, plan]) => model.audits.some((audits) => audits[plan]));
  if (!seen.length) return null;
  const column = (plan, which) => model.audits.slice(1).map((audits) => audits[plan]?.[which] ?? null);
  const series = seen.slice(0, 4).flatMap(([name, plan]) => [[`${name}, promised`, column(plan, 0)], [`${name}, observed`, column(plan, 1)]]);
  const values = series.flatMap(([, points]) => points.filter((value) => value !== null));
  const low = Math.min(...values, 0.99);
  return lines("Agreement with the most expensive plan", at, series, percent, [low, 1]);
}

function engine(model) {
  if (!model.engine.length) return [];
  const rows = model.engine.map((metric) => [metric.label ? `${metric.help} (${metric.label})` : metric.help, short(metric.value)]);
  return [element("figure", {}, [element("h3", {}, ["Of the engine itself"]), table("engine", ["", ""], rows)])];
}
