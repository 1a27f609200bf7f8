/* Charts: one for each name of a metric, made when it comes into view and removed when it is far away. */

/* Charts of a group that are listed at first, and rows of a table. */
const FIRST_CHARTS = 60;
const FIRST_ROWS = 100;
const CHART_HEIGHT = 220;
/* Pixels within which a mark is beside the cursor, texts that are shown there at once, and events of a run in a table. */
const NEAR = 8;
const MOST_NOTES = 3;
const MOST_MARKED = 50;

/* Charts that exist now. */
const live = new Set();
let charts = [];

function createSeriesOf(name) {
  const found = [];
  for (const run of selectedRuns().slice(0, MOST_DRAWN)) {
    const curves = run.byName.get(name) || [];
    const lowest = Math.min(...curves.map((curve) => curve.rank));
    found.push(...curves.filter((curve) => (view.hasAllRanks || curve.rank === lowest) && (!isMetricAxis() || findAxis(curve))));
  }
  const isOneRun = new Set(found.map((curve) => curve.run)).size === 1;
  return found.map((curve, at) => {
    const same = found.filter((other) => other.run === curve.run);
    const hasLoggers = same.some((other) => other.logger !== curve.logger);
    const hasRanks = same.some((other) => other.rank !== curve.rank);
    const number = isOneRun && found.length > 1 ? at : numbers.get(curve.run.index) + (isOneRun ? 0 : 8 * same.indexOf(curve));
    const label = joinParts((!isOneRun || same.length === 1) && curve.run.label, hasLoggers && curve.logger, hasRanks && "rank " + curve.rank);
    return { curve, number, label: label || curve.run.label };
  });
}

function setZoom(zoom) {
  change("zoom", { zoom });
}

/* Ends of a zoom that numbers can tell apart, and that an axis can have. */
const isRange = ([low, high]) => high - low > 1e-12 * Math.abs((low + high) / 2) && [low, high].every((x) => Math.abs(x) < 1e18);

/* The moment and the lines before the last click, for a double click to bring back. */
let beforeClick = null;

function takeBackClick() {
  if (!beforeClick) return;
  const { active, scrollTop, moment, logRun } = beforeClick;
  beforeClick = null;
  change("moment", { moment, logRun });
  activate(active, false);
  find("log-lines").scrollTop = scrollTop;
}

class Chart {
  constructor(name, shown) {
    this.name = name;
    this.plot = null;
    this.series = [];
    this.facts = create("p.facts");
    this.drawing = create("div.plot", { tabindex: 0, role: "group", "aria-label": "Curve of " + name, "aria-describedby": "plot-help", keydown: (event) => this.press(event), pointerdown: (event) => putFinger(this, event), pointermove: moveFinger, pointerup: liftFinger, pointercancel: liftFinger });
    this.legend = create("ul.legend");
    this.marks = [];
    this.note = create("div.note", { hidden: true });
    this.table = create("div.values", { hidden: true });
    this.tableButton = create("button", { text: "Table", "aria-expanded": "false", "aria-label": "Table of " + name, click: () => this.toggleTable() });
    this.element = create("article.chart", {},
      create("div.chart-head", {}, create("h4", { text: shown, title: name }), this.tableButton),
      this.facts, this.drawing, this.legend, this.table);
    this.element.chart = this;
  }

  get runs() {
    return this.series.map(({ curve }) => curve.run);
  }

  make() {
    if (this.plot) return;
    this.series = createSeriesOf(this.name);
    this.drawing.classList.toggle("is-empty", this.series.length === 0);
    live.add(this);
    if (this.series.length === 0) {
      this.drawing.replaceChildren(createHint(isMetricAxis() ? "No selected run has this metric and that of x." : "No selected run has this metric."));
      this.legend.replaceChildren();
      this.facts.textContent = "";
      return;
    }
    const { points, options, bands } = this.readSeries();
    const [ink, grid] = ["--muted", "--line"].map(readColor);
    const font = "11px system-ui, sans-serif";
    const axis = { stroke: ink, font, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1, size: 4 } };
    const isTime = view.x === "time";
    const xAxis = { ...axis, space: isTime || view.x === "relative" ? 70 : 60, size: isTime ? 40 : 28, values: isTime ? formatTimes : (_, splits) => splits.map(formatX) };
    const hasPositive = this.lines.some((line) => line.y.some((y) => y !== null && y > 0));
    this.drawing.replaceChildren();
    this.plot = new uPlot({
      width: this.drawing.clientWidth || 300,
      height: CHART_HEIGHT,
      legend: { show: false },
      scales: { x: { time: isTime }, y: view.isLogarithmic && hasPositive ? { distr: 3 } : {} },
      axes: [xAxis, { ...axis, size: measureTicks, values: (_, splits) => splits.map(formatTick) }],
      series: options,
      bands,
      padding: [10, 20, 0, 0],
      cursor: {
        y: false,
        points: { show: false },
        drag: { x: true, y: false, setScale: false, dist: 5 },
        bind: { dblclick: () => () => {
          setZoom(null);
          takeBackClick();
        } },
        sync: { key: "charts", setSeries: false, scales: ["x", null], filters: { pub: (type) => type === "mousemove" || type === "mouseleave" } },
      },
      hooks: {
        setSelect: [(plot) => this.zoomToSelection(plot)],
        setCursor: [(plot) => {
          this.showValues(plot);
          this.showNote(plot);
        }],
        draw: [(plot) => this.drawMarks(plot)],
      },
    }, points, this.drawing);
    this.plot.over.append(this.note);
    this.plot.over.addEventListener("mousedown", (event) => (this.pressedAt = event.clientX));
    this.plot.over.addEventListener("click", (event) => {
      if (event.detail > 1 || hasDragged || !(Math.abs(event.clientX - this.pressedAt) < 5)) return;
      beforeClick = { active: log.active, scrollTop: find("log-lines").scrollTop, moment: view.moment, logRun: view.logRun };
      this.chooseMoment(this.plot.posToVal(event.offsetX, "x"));
    });
    this.showPoints();
  }

  /* Shows the points that the plot has got, and the texts about them. */
  showPoints() {
    this.applyZoom();
    this.showFacts();
    this.showValues(this.plot);
    if (!this.table.hidden) this.fillTable();
  }

  /* The x between which the chart is drawn. */
  get range() {
    return view.zoom || xExtent(this.runs);
  }

  /* The points of all series on one x, and how they are drawn. */
  readSeries() {
    this.outputs = null;
    this.lines = this.series.map(({ curve }) => createLine(xNumbers(curve.read(), curve), curve.read().values));
    this.bands = view.group ? this.createBands() : [];
    return view.group ? this.readBands() : this.readLines();
  }

  /* The line of the means of a series, which is thinned; else the line of its values. */
  readMeans(at) {
    const { curve } = this.series[at];
    const { means } = curve.read();
    return means === curve.read() ? this.lines[at] : createLine(xNumbers(means, curve), means.values);
  }

  readLines() {
    const lines = [];
    const options = [{}];
    const hasMany = this.series.length > MANY_LINES;
    const thin = hasMany && 1 / (devicePixelRatio || 1);
    this.series.forEach(({ curve, number }, at) => {
      const raw = this.lines[at];
      const { color: stroke, dash } = styleOf(number);
      const isSparse = curve.count <= 40 || curve.count < curve.run.clock.count / 5;
      /* Points without an order are a cloud, which no line joins. */
      const isCloud = isMetricAxis() && !raw.isOrdered;
      const isSmooth = view.smoothing > 0 && !isSparse && !isCloud;
      lines.push(raw);
      options.push({ stroke: isSmooth ? stroke + "48" : stroke, width: thin || (isSmooth || curve.count > 500 ? 1.2 : 1.6), dash, paths: isCloud ? () => null : undefined, points: { show: isCloud || (isSparse && curve.count <= 400), size: isCloud ? 4 : 6, fill: stroke, stroke } });
      if (isSmooth) {
        const { x, y } = this.readMeans(at);
        lines.push({ x, y: smoothValues(y, view.smoothing) });
        options.push({ stroke, width: thin || 2, dash, points: { show: false } });
      }
    });
    const count = addUp(lines.map((line) => line.x.length));
    const hasCloud = isMetricAxis() && lines.some((line) => line.isOrdered === false);
    this.isThinned = (lines.length > 1 && count > MANY_POINTS) || (hasCloud && count > MANY_DOTS);
    const { range } = this;
    const columns = (this.drawing.clientWidth || 300) / (hasMany ? 2 : 1);
    const thinned = this.isThinned ? lines.map((line) => thinLine(line, range, Math.floor(columns))) : lines;
    return { points: uPlot.join(thinned.map((line) => [line.x, line.y])), options };
  }

  /* Loggers that log a metric of the same name mean different things. */
  createBands() {
    const loggers = new Set(this.series.map(({ curve }) => curve.logger));
    const nameOf = ({ run, logger }) => groupOf(run) + (loggers.size > 1 ? " · " + logger : "");
    const { range } = this;
    const places = groupBy(this.series.keys(), (at) => nameOf(this.series[at].curve));
    return [...places].map(([group, own], number) => {
      const byRun = groupBy(own, (at) => this.series[at].curve.run);
      const means = [...byRun.values()].map((ofRun) => ofRun.map((at) => this.readMeans(at)));
      const band = createBand(own.map((at) => this.lines[at]), means, range);
      const [run] = byRun.keys();
      return { ...band, number: loggers.size > 1 ? number : numberOf(run), label: `${group} · ${plural(byRun.size, "run")}` };
    });
  }

  /* A group is drawn as its mean in a band from the least to the greatest value. */
  readBands() {
    const tables = [];
    const options = [{}];
    const bands = [];
    for (const { x, low, high, mean, number } of this.bands) {
      const { color: stroke, dash } = styleOf(number);
      const edge = { stroke: stroke + "60", width: 0.5, points: { show: false } };
      bands.push({ series: [options.length, options.length + 1], fill: stroke + "30" });
      options.push(edge, edge, { stroke, width: 2, dash, points: { show: x.length <= 40, size: 6, fill: stroke, stroke } });
      tables.push([x, high], [x, low], [x, smoothValues(mean, view.smoothing)]);
    }
    return { points: uPlot.join(tables), options, bands };
  }

  remove() {
    live.delete(this);
    if (this.plot) this.plot.destroy();
    this.plot = this.outputs = null;
    this.lines = this.bands = [];
  }

  remake() {
    this.remove();
    this.make();
  }

  resize() {
    const width = this.drawing.clientWidth;
    if (this.plot && width && width !== this.plot.width) this.plot.setSize({ width, height: CHART_HEIGHT });
  }

  applyZoom() {
    if (!this.plot) return;
    const [min, max] = this.range;
    this.plot.setScale("x", { min, max });
  }

  /* Bands and thinned lines are made for what is in view. */
  zoom() {
    if (view.group || this.isThinned) this.remake();
    else this.applyZoom();
  }

  zoomToSelection(plot) {
    const { left, width } = plot.select;
    if (width < 5) return;
    const zoom = [plot.posToVal(left, "x"), plot.posToVal(left + width, "x")];
    plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    if (zoom[1] > zoom[0]) setZoom(zoom);
  }

  /* The facts of the curve that a reader must know: its best value, and values that no line can show. */
  showFacts() {
    const parts = [];
    const bests = this.series.map(({ curve }) => curve.run.findBest(curve)).filter(Boolean);
    if (bests.length === 1) parts.push(`best ${formatValue(bests[0].value)} at step ${formatCount(bests[0].step)}`);
    const nonfinite = addUp(this.series.map(({ curve }) => curve.nonfinite));
    if (nonfinite > 0) {
      const steps = this.series.flatMap(({ curve }) => {
        const at = curve.read().values.findIndex((value) => !isNumber(value));
        return at < 0 ? [] : [curve.read().steps[at]];
      });
      parts.push(`${plural(nonfinite, "value")} NaN or infinite` + (steps.length ? `, from step ${formatCount(Math.min(...steps))}` : ""));
    }
    if (view.isLogarithmic) {
      const below = addUp(this.series.map(({ curve }) => curve.read().values.filter((value) => value <= 0).length));
      if (below > 0) parts.push(`${plural(below, "value")} not above 0`);
    }
    this.facts.textContent = parts.join(" · ");
    this.facts.classList.toggle("is-warning", nonfinite > 0);
    const entries = view.group ? this.bands : this.series;
    const shown = entries.slice(0, 12);
    this.outputs = shown.map(() => create("span.value"));
    this.legend.replaceChildren(...shown.map((series, at) => create("li", {}, createSwatch(series.number), create("span.name", { text: clip(series.label, 32), title: series.label }), this.outputs[at])));
    if (entries.length > shown.length) this.legend.append(create("li.muted", { text: `+${entries.length - shown.length}` }));
  }

  /* The values nearest to the cursor, else the last ones. */
  showValues(plot) {
    if (!this.outputs) return;
    const { left } = plot.cursor;
    const x = left >= 0 ? plot.posToVal(left, "x") : Infinity;
    this.outputs.forEach((output, at) => {
      if (view.group) {
        const { x: xs, low, high, mean } = this.bands[at];
        let place = findNearest(xs, x);
        /* At rest, the last column that has values. */
        while (x === Infinity && place > 0 && mean[place] === null) place -= 1;
        output.textContent = `${formatValue(mean[place])} (${formatValue(low[place])} to ${formatValue(high[place])}) @ ${formatColumn(xs[place])}`;
      } else {
        const { values, steps } = this.series[at].curve.read();
        const place = this.placeOf(at, x);
        output.textContent = formatPoint({ value: values[place], step: steps[place] });
      }
    });
  }

  /* The place of the point of a series that is nearest to an x. */
  placeOf(at, x) {
    const line = this.lines[at];
    return x === Infinity ? line.last : line.places[findNearest(line.x, x)];
  }

  /* What the events beside the cursor say, in the chart that a person is at. */
  showNote({ cursor: { left }, over }) {
    const isHere = left >= 0 && this.drawing.matches(":hover, :focus");
    const near = isHere ? this.marks.filter((mark) => Math.abs(mark.left - left) < NEAR).slice(-MOST_NOTES) : [];
    this.note.hidden = near.length === 0;
    this.note.replaceChildren(...near.map(({ event, run }) => create("p", { class: "is-" + event.level }, create("b", { text: formatEvent(run, event) + " " }), clip(event.text, 200))));
    const isRight = left > over.clientWidth / 2;
    this.note.style.left = isRight ? "" : left + NEAR + "px";
    this.note.style.right = isRight ? over.clientWidth - left + NEAR + "px" : "";
  }

  chooseMoment(x) {
    const run = this.runs.includes(view.logRun) ? view.logRun : this.runs[0];
    if (!run) return;
    const at = this.series.findIndex((series) => series.curve.run === run);
    const { times, steps } = this.series[at].curve.read();
    const place = this.placeOf(at, x);
    if (isKnown(place)) setMoment(run, times[place], steps[place]);
  }

  drawMarks(plot) {
    const { ctx, bbox } = plot;
    const ratio = devicePixelRatio || 1;
    /* Reading a color takes long, and there are many marks. */
    const colors = {};
    const drawLine = (x, color, dash, width) => {
      const left = plot.valToPos(x, "x", true);
      if (!(left >= bbox.left && left <= bbox.left + bbox.width)) return;
      ctx.strokeStyle = ctx.fillStyle = colors[color] ||= readColor(color);
      ctx.setLineDash(dash.map((length) => length * ratio));
      ctx.lineWidth = width * ratio;
      ctx.beginPath();
      ctx.moveTo(left, bbox.top);
      ctx.lineTo(left, bbox.top + bbox.height);
      ctx.stroke();
      return left;
    };
    const drawEvent = (x, { level }) => {
      const left = drawLine(x, EVENT_COLORS[level], level === "error" ? [] : [6, 3], 1);
      if (left === undefined) return;
      ctx.beginPath();
      ctx.moveTo(left - 4.5 * ratio, bbox.top);
      ctx.lineTo(left + 4.5 * ratio, bbox.top);
      ctx.lineTo(left, bbox.top + 7 * ratio);
      ctx.fill();
    };
    ctx.save();
    const marked = view.group ? [] : this.series;
    this.marks = [];
    for (const [run, [{ curve }]] of [...groupBy(marked, ({ curve }) => curve.run)].slice(0, 8)) {
      for (const attempt of run.attempts.slice(1)) drawLine(xOfMoment(curve, attempt.started, run.stepAt(attempt.started)), "--muted", [2, 4], 1);
      for (const event of run.findEvents(this.name)) this.marks.push({ event, run, x: xOfMoment(curve, event.time, run.stepOf(event)) });
    }
    /* The worst come last, so that no other one hides them. */
    this.marks.sort((a, b) => EVENT_LEVELS.indexOf(b.event.level) - EVENT_LEVELS.indexOf(a.event.level));
    const drawn = new Set();
    for (const mark of this.marks) {
      mark.left = plot.valToPos(mark.x, "x");
      const place = Math.round(mark.left) + mark.event.level;
      if (!drawn.has(place)) drawEvent(mark.x, mark.event);
      drawn.add(place);
    }
    const { moment } = view;
    if (moment && view.selected.has(moment.run.index) && moment.run.clock) drawLine(xOfMoment(moment.run.clock, moment.time, moment.step), "--hue", [], 1.5);
    ctx.setLineDash([]);
    for (const { curve, number } of marked) {
      const best = curve.run.findBest(curve);
      if (!best) continue;
      const { times, steps } = curve.read();
      const x = plot.valToPos(xOfMoment(curve, times[findNearest(steps, best.step)], best.step), "x", true);
      const y = plot.valToPos(best.value, "y", true);
      if (!(x >= bbox.left && x <= bbox.left + bbox.width && isNumber(y))) continue;
      ctx.strokeStyle = styleOf(number).color;
      ctx.fillStyle = readColor("--face");
      ctx.lineWidth = 2 * ratio;
      ctx.beginPath();
      ctx.arc(x, y, 4.5 * ratio, 0, 2 * Math.PI);
      ctx.fill();
      ctx.stroke();
    }
    ctx.restore();
  }

  press(event) {
    const { plot } = this;
    if (!plot || event.ctrlKey || event.metaKey || event.altKey) return;
    const width = plot.over.clientWidth;
    const left = plot.cursor.left >= 0 ? plot.cursor.left : width / 2;
    const move = (to) => plot.setCursor({ left: Math.min(Math.max(to, 0), width - 1), top: 10 });
    const zoomBy = (factor) => {
      const [low, high] = this.range;
      const middle = plot.posToVal(left, "x");
      const zoom = [middle - (middle - low) * factor, middle + (high - middle) * factor];
      if (isRange(zoom)) setZoom(zoom);
    };
    const keys = {
      ArrowLeft: () => move(left - (event.shiftKey ? 50 : 5)),
      ArrowRight: () => move(left + (event.shiftKey ? 50 : 5)),
      Enter: () => this.chooseMoment(plot.posToVal(left, "x")),
      "+": () => zoomBy(0.5),
      "-": () => zoomBy(2),
      Escape: () => setZoom(null),
    };
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  }

  toggleTable() {
    this.table.hidden = !this.table.hidden;
    this.tableButton.setAttribute("aria-expanded", String(!this.table.hidden));
    if (!this.table.hidden) this.fillTable();
  }

  fillTable() {
    /* Rows are functions: a long curve has many more of them than are shown. */
    const cells = (...texts) => texts.map((text) => ({ text }));
    const marks = view.group ? [] : [...new Set(this.runs)].flatMap((run) => run.findEvents(this.name).slice(-MOST_MARKED).map((event) => () => [run.label, ...cells(formatCount(event.step), formatTime(event.time), "–"), `${event.level}: ${event.text}`]));
    const more = marks.length > 0 ? [""] : [];
    const heads = view.group ? ["Group", "x", "Mean", "Least", "Greatest"] : ["Series", "Step", "Time", "Value", ...more.map(() => "Event")];
    const rows = view.group
      ? this.bands.flatMap(({ label, x, mean, low, high }) => x.map((x, at) => () => [label, ...cells(formatColumn(x), ...[mean, low, high].map((values) => formatValue(values[at])))]))
      : this.series.flatMap(({ curve, label }) => {
        const { steps, times, values } = curve.read();
        return Array.from(steps, (step, at) => () => [label, ...cells(formatCount(step), formatTime(times[at]), String(values[at])), ...more]);
      });
    /* Rows that come leave a reader where the reader is. */
    const scrollTop = this.table.firstChild?.scrollTop;
    keepFocus(this.table, () => this.table.replaceChildren(...createLongTable(`Values of ${this.name}`, heads, [...marks, ...rows], FIRST_ROWS, (row) => row())));
    this.table.firstChild.scrollTop = scrollTop;
  }
}

const nearby = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (isIntersecting) target.chart.make();
    else if (!document.body.classList.contains("is-printing")) target.chart.remove();
  }
}, { rootMargin: "600px 0px" });

const widths = new ResizeObserver((entries) => {
  for (const { target } of entries) target.parentElement.chart.resize();
});

/* Names of metrics by their first part, in an order that begins with what the training logs. */
function groupNames() {
  const names = new Set(runs.flatMap((run) => run.curves.map((curve) => curve.name)));
  const groups = groupBy(names, (name) => (name.indexOf("/") > 0 ? name.slice(0, name.indexOf("/")) : "others"));
  const order = ["metrics", "throughput", "memory", "system", "progress", "time"];
  const place = (group) => (order.includes(group) ? order.indexOf(group) : 0.5);
  return [...groups].sort(([a], [b]) => place(a) - place(b));
}

let groups = groupNames();
const listNames = () => groups.flatMap(([, names]) => names);
/* Groups that are folded, at first because few look at them. */
const closedGroups = new Set(["time", "progress"]);

function drawGroups() {
  charts.forEach((chart) => chart.remove());
  nearby.disconnect();
  widths.disconnect();
  charts = [];
  const drawn = [];
  const shownRuns = selectedRuns();
  const available = new Set(shownRuns.flatMap((run) => run.curves.map((curve) => curve.name)));
  for (const [group, names] of groups) {
    const matching = names.filter((name) => available.has(name) && (!view.search || view.search.test(name)));
    if (matching.length === 0) continue;
    const grid = create("div.grid");
    const more = create("button.more", { text: "Show more", click: () => add() });
    let count = 0;
    const add = () => {
      for (const name of matching.slice(count, count + FIRST_CHARTS)) {
        const chart = new Chart(name, name.startsWith(group + "/") ? name.slice(group.length + 1) : name);
        charts.push(chart);
        grid.append(chart.element);
        nearby.observe(chart.element);
        widths.observe(chart.drawing);
      }
      count = Math.min(count + FIRST_CHARTS, matching.length);
      more.hidden = count >= matching.length;
    };
    const isOpen = !closedGroups.has(group) || Boolean(view.search);
    const details = create("details.group", { open: isOpen },
      create("summary", {}, create("h3", { text: group }), create("span.muted", { text: plural(matching.length, "chart") })), grid, more);
    details.addEventListener("toggle", () => {
      if (details.open && count === 0) add();
      if (!view.search) closedGroups[details.open ? "delete" : "add"](group);
    });
    if (isOpen) add();
    drawn.push(details);
  }
  if (drawn.length === 0) drawn.push(createHint(explainNoCharts(shownRuns, available)));
  find("groups").replaceChildren(...drawn);
}

function explainNoCharts(shownRuns, available) {
  if (runs.length === 0) return data.list ? "There are no runs yet." : "This report has no runs. Write one for a folder with a run.json.";
  if (shownRuns.length === 0) return "Check a run in the table to see its curves.";
  if (available.size === 0) return "There are no metrics yet. Curves come with the first call of log_metrics.";
  return "No metric matches. Clear the search to see all.";
}
