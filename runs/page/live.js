/* The page over live runs: it loads the runs that are drawn, and adds what has come since. */

/* Least milliseconds between two drawings of what has come, and before another try to reach the server. */
const DRAW_EVERY = 300;
const DRAW_LOADS_EVERY = 1000;
const RETRY_AFTER = 3000;
/* Values that a curve may get before its run is loaded again, thinned. */
const MOST_ADDED = 8000;
const MOST_LINES = 2000;
const LOADS_AT_ONCE = 3;
/* Most runs of one request: a browser takes as long to ask as the server to read a short run. */
const MOST_ASKED = 8;

const stream = { source: null, query: null, retry: 0 };
const status = create("p.live.muted", { role: "status" });
const changed = { runs: new Set(), hasNewNames: false, hasNewRuns: false, hasNewHealth: false, timer: 0, pause: DRAW_EVERY, isLoading: false };
const waiting = [];
let loads = 0;
/* The version of the list of runs. */
let list = data.list;
let isPressing = false;

const findRun = (key) => runs.find((run) => run.key === key);
const joinKeys = (those) => those.map((run) => "key=" + encodeURIComponent(run.key)).join("&");

function showStatus(text, kind) {
  status.textContent = unmask(text);
  status.className = "live muted is-" + kind;
}

/* Opens the stream of the runs that are drawn, and loads those that are not there. A hidden page has none: browsers open few for all pages of a server. */
function openStream() {
  const drawn = selectedRuns().slice(0, MOST_DRAWN);
  const keys = document.hidden ? null : joinKeys(drawn);
  if (keys === stream.query && stream.source) return;
  clearTimeout(stream.retry);
  if (stream.source) stream.source.close();
  stream.source = null;
  stream.query = keys;
  if (keys === null) return;
  const source = new EventSource("news?" + keys);
  stream.source = source;
  const hear = (kind, call) => source.addEventListener(kind, (event) => call(JSON.parse(event.data)));
  hear("versions", (news) => {
    showStatus("live", "on");
    if (news.list !== list) loadList();
    for (const [key, version] of Object.entries(news.versions)) {
      const run = findRun(key);
      /* What is on its way may be older than the stream. */
      if (run?.pending) run.wanted = version;
      else if (run && (version === null || run.version !== version)) loadRun(run);
    }
  });
  hear("rows", (news) => {
    const run = findRun(news.key);
    if (!run) return;
    if (run.pending) run.pending.push(news);
    else if (!addNews(run, news)) loadRun(run);
  });
  hear("reload", ({ key }) => findRun(key) && loadRun(findRun(key)));
  hear("list", loadList);
  hear("run", (news) => {
    list = news.list || list;
    describeRun(news.runs[0]);
  });
  hear("gone", (news) => {
    list = news.list || list;
    forgetRun(news.key);
  });
  source.addEventListener("error", async () => {
    showStatus("connection lost, trying again", "off");
    if (source.readyState !== EventSource.CLOSED) return;
    stream.source = null;
    stream.retry = setTimeout(openStream, RETRY_AFTER);
    const answer = await fetch("list", { method: "HEAD" }).catch(() => null);
    if (answer && answer.status === 401) showStatus("the server has another token: open the address that it has printed", "off");
  });
  drawn.filter((run) => run.version === undefined && !run.pending).forEach(loadRun);
}

/* Takes what the files of a run say now, or a run that is new. */
function describeRun(raw) {
  const known = findRun(raw.key);
  const isBack = known && known.state === "deleted";
  if (known) {
    known.describe(raw);
    known.measure();
    changed.runs.add(known);
  } else {
    runs.push(new Run(raw, runs.length));
  }
  changed.hasNewRuns = true;
  if (runs.length === 1 && !known) {
    drawTable();
    chooseFirst();
  }
  if (isBack && view.selected.has(known.index)) loadRun(known);
  drawSoon();
}

/* A run whose folder is gone stays on the screen. */
function forgetRun(key) {
  const run = findRun(key);
  if (!run) return;
  Object.assign(run, { state: "deleted", version: undefined, text: undefined });
  if (status.dataset.key === key) showStatus("live", "on");
  changed.hasNewRuns = true;
  drawSoon();
}

async function loadList() {
  const response = await fetch("list").catch(() => null);
  if (!response || !response.ok) return;
  const news = await response.json();
  list = news.list;
  const keys = new Set(news.runs.map((raw) => raw.key));
  for (const run of runs) if (!keys.has(run.key)) forgetRun(run.key);
  /* The newest run is the first one, and new runs come last here. */
  news.runs.reverse().forEach(describeRun);
}

/* Loads the curves and lines of a run that has not been deleted, a few runs at a time. News that come meanwhile wait. */
function loadRun(run) {
  if (run.state === "deleted") return;
  if (run.pending) {
    run.isStale = true;
    return;
  }
  run.pending = [];
  run.wanted = null;
  waiting.push(run);
  loadNext();
}

/* Asks for the next runs; those that the server leaves out are the first of the next request. */
async function loadNext() {
  if (loads >= LOADS_AT_ONCE || waiting.length === 0) return;
  const asked = waiting.splice(0, Math.min(Math.ceil(waiting.length / LOADS_AT_ONCE), MOST_ASKED));
  loads += 1;
  for (const run of asked) run.isStale = false;
  try {
    for (const head of await fetchAnswers("run?" + joinKeys(asked))) {
      const [run] = asked;
      run.setCurves(head.curves);
      Object.assign(run, { version: head.version, lines: head.lines, earlier_lines: head.earlier_lines, parsed: null });
      run.setHealth(head);
      changed.hasNewHealth = true;
      changed.hasNewNames = true;
      changed.runs.add(run);
      if (status.dataset.key === run.key) showStatus("live", "on");
      asked.shift();
      const news = run.pending;
      run.pending = null;
      if (run.isStale || run.wanted > run.version || !news.every((one) => addNews(run, one))) loadRun(run);
    }
  } catch (problem) {
    const run = asked.shift();
    run.pending = null;
    status.dataset.key = run.key;
    showStatus(`cannot load ${clip(run.label, 40)}: ${problem.message}`, "off");
    setTimeout(() => run.version === undefined && view.selected.has(run.index) && loadRun(run), RETRY_AFTER);
  }
  loads -= 1;
  waiting.unshift(...asked);
  drawSoon();
  for (let free = LOADS_AT_ONCE; free > loads; free--) loadNext();
}

/* The answers, which follow each other: of each the length of its head, the head as JSON with its curves, and their numbers. */
async function fetchAnswers(address) {
  const response = await fetch(address);
  if (!response.ok) throw new Error((await response.text()).trim() || response.statusText);
  const buffer = await response.arrayBuffer();
  const heads = [];
  for (let at = 0; at < buffer.byteLength; ) {
    const begin = at + 4 + new DataView(buffer).getUint32(at, true);
    const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, at + 4, begin - at - 4)));
    at = begin + head.size;
    head.curves.forEach((curve, place) => {
      const next = head.curves[place + 1];
      curve.data = new Uint8Array(buffer.slice(begin + curve.offset, next ? begin + next.offset : at));
    });
    heads.push(head);
  }
  return heads;
}

/* Adds rows and lines; returns false if something between them and what is there is absent. */
function addNews(run, news) {
  if (run.version === undefined || news.from > run.version) return false;
  if (news.version <= run.version) return true;
  run.version = news.version;
  for (const row of news.rows) addRow(run, row);
  run.measure();
  if (run.curves.some((curve) => curve.added > MOST_ADDED)) return false;
  if (news.ranks || news.events) {
    run.setHealth({ ...run, ...news });
    changed.hasNewHealth = true;
  }
  if (news.lines.length > 0) {
    run.lines = [...run.lines, ...news.lines].slice(-MOST_LINES);
    run.parsed = null;
    run.hasNewLines = true;
  }
  if (news.rows.length + news.lines.length > 0 || news.events) changed.runs.add(run);
  drawSoon();
  return true;
}

function addRow(run, [rank, logger, step, time, values]) {
  for (const [name, text] of Object.entries(values)) {
    const own = run.byName.get(name) || [];
    let curve = own.find((other) => other.logger === logger && other.rank === rank);
    if (!curve) {
      curve = new Curve({ name, logger, rank, count: 0, step0: step, time0: time }, run);
      curve.decoded = { steps: new Float64Array(), times: new Float64Array(), values: new Float64Array() };
      curve.decoded.means = curve.decoded;
      run.curves.push(curve);
      run.byName.set(name, [...own, curve]);
      changed.hasNewNames = true;
    }
    addPoint(curve, step, time, Number(text));
  }
}

/* Notes a value of a curve, which is added when the curve is drawn. */
function addPoint(curve, step, time, value) {
  curve.queue ||= [];
  curve.queue.push([step, time, value]);
  curve.added = (curve.added || 0) + 1;
  if (curve.count === 0 || curve.step1 !== step) curve.count += 1;
  if (!isNumber(value)) curve.nonfinite += 1;
  curve.step1 = step;
  curve.time1 = time;
}

/* Adds the values that have been noted; the last one of a step counts. */
function addQueue(curve) {
  if (!curve.queue) return;
  const all = curve.readAll();
  const known = all.steps.length;
  const last = curve.queue.filter(([step], at, queue) => at + 1 === queue.length || queue[at + 1][0] !== step);
  curve.queue = null;
  /* A zoom that ends behind the values has to show them. */
  if (!(last[0][0] > curve.detailEnd)) curve.detailOf = null;
  const repeats = known > 0 && all.steps[known - 1] === last[0][0];
  for (const points of new Set([all, all.means])) {
    /* A mean of many values stays what it is. */
    const kept = points.steps.length - (repeats && points === all ? 1 : 0);
    const extend = (numbers, column) => {
      const extended = new Float64Array(kept + last.length);
      extended.set(numbers.slice(0, kept));
      last.forEach((point, at) => (extended[kept + at] = point[column]));
      return extended;
    };
    Object.assign(points, { steps: extend(points.steps, 0), times: extend(points.times, 1), values: extend(points.values, 2) });
  }
}

/* Drawings take time from the loads, so there are few between the first and the last run that is loaded. */
function drawSoon() {
  const isLoading = loads > 0 || waiting.length > 0;
  const hasLoaded = changed.isLoading && !isLoading;
  if (changed.timer && !hasLoaded) return;
  clearTimeout(changed.timer);
  changed.isLoading = isLoading;
  changed.timer = setTimeout(drawChanges, hasLoaded ? 0 : isLoading && groups.length > 0 ? DRAW_LOADS_EVERY : changed.pause);
}

function drawChanges() {
  const start = performance.now();
  drawChanged();
  /* A page that takes long to draw has as much time left for what comes. The browser paints after the next frame. */
  requestAnimationFrame(() => requestAnimationFrame(() => (changed.pause = Math.max(DRAW_EVERY, 2 * (performance.now() - start)))));
}

function drawChanged() {
  const { runs: those, hasNewNames, hasNewRuns, hasNewHealth } = changed;
  Object.assign(changed, { runs: new Set(), hasNewNames: false, hasNewRuns: false, hasNewHealth: false, timer: 0 });
  for (const run of those) run.curves.forEach(addQueue);
  /* A table of many runs takes long to draw. */
  if (hasNewRuns || measureRuns() !== changed.measures) drawTable();
  drawOverview();
  hideParts();
  const known = listNames().join("\n");
  if (hasNewNames) {
    groups = groupNames();
    /* The address may have named a metric that no run has. */
    if (isMetricAxis() && loads + waiting.length === 0 && !listNames().includes(view.x.slice(1))) change("x", { x: "step", zoom: null });
    drawAxes();
  }
  if (hasNewRuns) drawGroupings();
  if (hasNewNames && listNames().join("\n") !== known) drawNewGroups();
  else live.forEach((chart) => [...those].some((run) => run.byName.has(chart.name)) && refreshChart(chart));
  /* A person who reads in the sections reads on. */
  if (hasNewRuns && !find("sections").contains(document.activeElement)) drawSections();
  else if (hasNewHealth) drawHealth();
  if (view.zoom) loadDetails();
  if (those.has(view.logRun)) drawNewLines(view.logRun);
}

/* Draws the events and the ranks again, unless a person reads in them. */
function drawHealth() {
  const shown = selectedRuns().slice(0, MOST_COMPARED);
  const focused = document.activeElement;
  for (const { body, fill, isAbsent } of sections.filter(({ fill }) => fill === createEvents || fill === createRanks)) {
    const isThere = Boolean(body?.isConnected);
    if (isThere === shown.every(isAbsent)) return find("sections").contains(focused) || drawSections();
    if (isThere && body.firstChild && !body.contains(focused)) body.replaceChildren(...fill(shown));
  }
}

/* What the curves of the runs add to the table. */
const measureRuns = () => runs.map(({ start, lastStep, duration }) => [start, lastStep, duration]).join();

/* Draws the header and the table of runs. A press of a button in the table must find the button at its end. */
function drawTable() {
  changed.measures = measureRuns();
  labelRuns();
  columns = createColumns();
  drawHeader();
  find("footer").textContent = `Live from logcore ${data.version}. Drawn with uPlot. The page talks to its server alone.`;
  if (isPressing) changed.hasNewRuns = true;
  else if (runs.length > 1) drawRunsTable();
}

/* Draws all groups, and opens again what was open. */
function drawNewGroups() {
  const open = new Set(charts.filter((chart) => !chart.table.hidden).map((chart) => chart.name));
  keepFocus(find("groups"), () => {
    drawGroups();
    for (const chart of charts) if (open.has(chart.name)) chart.toggleTable();
  });
}

/* Draws the points that have come. Another look needs another drawing. */
function refreshChart(chart) {
  const before = chart.look;
  chart.series = createSeriesOf(chart.name);
  const points = chart.plot && chart.series.length > 0 ? chart.readSeries().points : [];
  if (points.length === 0 || chart.look !== before) return chart.remake();
  chart.plot.setData(points, false);
  chart.showPoints();
}

const { make, readSeries } = Chart.prototype;

Chart.prototype.readSeries = function () {
  const read = readSeries.call(this);
  this.look = JSON.stringify([view.isLogarithmic && this.lines.some((line) => line.y.some((y) => y > 0)), ...read.options.map(({ width, paths, points }) => [width, !paths, points?.show])]);
  return read;
};

/* A chart that comes into view while the others are zoomed shows as much as they do. */
Chart.prototype.make = function () {
  make.call(this);
  if (view.zoom) loadDetails();
};

/* Draws the lines again; the reader and the line that is marked stay where they are. */
function drawNewLines(run) {
  if (!run.hasNewLines && run.parsed) return;
  run.hasNewLines = false;
  /* The first lines stand at their end, or at the moment that the address says. */
  if (log.items.length === 0) return drawLines();
  const place = find("log-lines");
  const isAtEnd = place.scrollTop + place.clientHeight >= place.scrollHeight - 40;
  const { scrollTop } = place;
  const hasFocus = place.contains(document.activeElement);
  const marked = log.items[log.active]?.line;
  drawLines();
  const at = marked ? log.items.findIndex(({ line }) => line.millis === marked.millis && line.message === marked.message && line.rank === marked.rank) : -1;
  if (at >= 0) activate(at, false);
  place.scrollTop = isAtEnd ? place.scrollHeight : scrollTop;
  if (hasFocus) place.firstElementChild.focus({ preventScroll: true });
}

/* Loads the points between the ends of the zoom, where the whole curve is thinned. A zoom that is over loads nothing more. */
async function loadDetails() {
  const wanted = view.zoom;
  for (const chart of [...live]) for (const { curve } of chart.series) {
    if (view.zoom !== wanted) return;
    const { run } = curve;
    if (curve.width <= 1 || curve.detailOf === String(wanted)) continue;
    const [from, to] = findSteps(curve, wanted);
    Object.assign(curve, { detailOf: String(wanted), detailEnd: to });
    try {
      const query = new URLSearchParams({ key: run.key, metric: curve.name, from, to });
      const [{ curves }] = await fetchAnswers("part?" + query);
      const raw = curves.find((other) => other.logger === curve.logger && (other.rank || 0) === curve.rank);
      if (!raw || curve.detailOf !== String(wanted)) continue;
      curve.detail = new Curve(raw, run);
      if (chart.plot) refreshChart(chart);
    } catch {
      if (curve.detailOf === String(wanted)) curve.detailOf = null;
    }
  }
}

/* The steps between which a curve is in the zoom. */
function findSteps(curve, [low, high]) {
  if (view.x === "step") return [Math.max(0, Math.floor(low) - 1), Math.max(0, Math.ceil(high) + 1)];
  const all = curve.readAll();
  const xs = xNumbers(all, curve);
  let [from, to] = [Infinity, 0];
  all.steps.forEach((step, at) => {
    const next = at + 1 < xs.length ? at + 1 : at;
    if (Math.min(xs[at], xs[next]) > high || Math.max(xs[at], xs[next]) < low) return;
    from = Math.min(from, step);
    to = Math.max(to, all.steps[next]);
  });
  /* Values that are still to come may be inside. */
  if (!(xs[xs.length - 1] > high)) to = Number.MAX_SAFE_INTEGER;
  return [Math.min(from, to), to];
}

function forgetDetails() {
  for (const run of runs) for (const curve of run.curves) curve.detail = curve.detailOf = null;
}

listen(["selection"], openStream);
listen(["zoom", "x"], () => {
  forgetDetails();
  live.forEach((chart) => chart.plot && refreshChart(chart));
  if (view.zoom) loadDetails();
});
on("runs-table", "pointerdown", () => (isPressing = true));
for (const end of ["pointerup", "pointercancel"]) addEventListener(end, () => {
  if (!isPressing) return;
  /* The click comes after the end of the press. */
  setTimeout(() => {
    isPressing = false;
    drawSoon();
  });
});
document.addEventListener("visibilitychange", openStream);
document.querySelector(".top-text").append(status);
showStatus("connecting", "off");
drawTable();
openStream();
