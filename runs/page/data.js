/* The data of the page: runs with their curves, which are decoded when they are first drawn. */

const data = JSON.parse(find("data").textContent);

/* Returns a function that reads the next so many numbers of a type, from base64 or from bytes. */
function decode(numbers) {
  const { buffer } = typeof numbers === "string" ? Uint8Array.from(atob(numbers), (character) => character.charCodeAt(0)) : numbers;
  let from = 0;
  return (Type, count) => new Type(buffer.slice(from, (from += count * Type.BYTES_PER_ELEMENT)));
}

/* Adds the base to each number, quicker than `Float64Array.from` with a function. */
function shift(numbers, base) {
  const shifted = new Float64Array(numbers);
  for (let at = 0; at < shifted.length; at++) shifted[at] += base;
  return shifted;
}

/* Values of one metric of one logger and rank. */
class Curve {
  constructor(raw, run) {
    /* `detail` is the part that a zoom shows, with more of its points. */
    Object.assign(this, { rank: 0, nonfinite: 0, width: 1, decoded: null, detail: null }, raw);
    this.name = data.names?.[raw.name] ?? raw.name;
    this.logger = data.names?.[raw.logger] ?? raw.logger;
    this.run = run;
  }

  /* `steps`, `times` and `values` of the points in view, and `means` of the buckets in the same form. */
  read() {
    return (this.detail || this).readAll();
  }

  readAll() {
    if (this.decoded) return this.decoded;
    const next = decode(this.data);
    const base = this.wide ? 0 : this.step0;
    const steps = shift(next(this.wide ? Float64Array : Uint32Array, this.points), base);
    const times = shift(next(Float32Array, this.points), this.time0);
    const values = next(Float64Array, this.points);
    let means = null;
    if (this.buckets) {
      const sizes = next(Uint8Array, this.buckets);
      means = { steps: [], times: [], values: next(Float32Array, this.buckets) };
      let begin = 0;
      for (const size of sizes) {
        const end = begin + size - 1;
        means.steps.push((steps[begin] + steps[end]) / 2);
        means.times.push((times[begin] + times[end]) / 2);
        begin += size;
      }
    }
    this.decoded = { steps, times, values };
    this.decoded.means = means || this.decoded;
    this.data = null;
    return this.decoded;
  }
}

/* The place of the number that is nearest to the wanted one, in numbers that increase. */
function findNearest(numbers, wanted) {
  let [low, high] = [0, numbers.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (numbers[middle] < wanted) low = middle + 1;
    else high = middle;
  }
  return low > 0 && wanted - numbers[low - 1] < numbers[low] - wanted ? low - 1 : low;
}

class Run {
  constructor(raw, index) {
    this.index = index;
    this.describe(raw);
    this.setCurves(raw.curves);
    this.lines = raw.lines;
    this.earlier_lines = raw.earlier_lines;
    this.setHealth(raw);
  }

  setHealth({ events, earlier_events, ranks }) {
    this.events = events || [];
    this.earlier_events = earlier_events || 0;
    this.ranks = ranks || [];
  }

  /* Takes what the files of the run say of it. */
  describe({ curves, lines, earlier_lines, ...head }) {
    Object.assign(this, head, { found: null, text: undefined });
    this.attempts = head.attempts || [];
    this.media = head.media || [];
    this.summary = head.summary && typeof head.summary === "object" ? head.summary : {};
    this.loggers = Object.values(this.summary).filter((logger) => logger && typeof logger === "object");
    this.settings = flatten(head.config);
  }

  setCurves(curves) {
    this.curves = curves.map((curve) => new Curve(curve, this));
    this.byName = groupBy(this.curves, (curve) => curve.name);
    this.measure();
  }

  measure() {
    /* The curve with most values tells best which step belongs to a time. */
    this.clock = this.curves.reduce((best, curve) => (best && best.count >= curve.count ? best : curve), null);
    const largest = (numbers) => numbers.reduce((most, number) => (isNumber(number) && !(most >= number) ? number : most), undefined);
    this.lastTime = this.ended || largest(this.curves.map((curve) => curve.time1));
    this.start = this.started > 0 ? this.started : this.clock ? this.clock.time0 : 0;
    this.lastStep = largest([
      ...this.attempts.map((attempt) => attempt.last_step),
      ...this.loggers.map((logger) => logger.last_step),
      ...this.curves.map((curve) => curve.step1),
    ]);
    this.duration = this.lastTime ? this.lastTime - this.start : undefined;
    const rate = (name) => largest(this.loggers.map((logger) => logger[name]));
    const samples = rate("samples_per_sec");
    this.throughput = samples || rate("steps_per_sec");
    this.throughputText = this.throughput ? formatTick(Number(this.throughput.toPrecision(4))) + (samples ? " samples/s" : " steps/s") : "–";
  }

  stepAt(time) {
    if (!this.clock) return 0;
    const { times, steps } = this.clock.readAll();
    return steps[findNearest(times, time)];
  }

  /* The events that a chart of a metric marks: those of the metric, and those of none. */
  findEvents(name) {
    return this.events.filter(({ metric }) => !metric || metric === name || metric === name.slice(name.indexOf("/") + 1));
  }

  stepOf(event) {
    return event.step ?? this.stepAt(event.time);
  }

  /* All summaries of metrics. The file is anybody's, so members that have another type are dropped. */
  get metrics() {
    if (this.found) return this.found;
    this.found = [];
    for (const [logger, summary] of Object.entries(this.summary)) {
      for (const metric of (summary && Array.isArray(summary.metrics) && summary.metrics) || []) {
        if (!metric || typeof metric.name !== "string") continue;
        const { name, count, nan_count, infinite_count, best } = metric;
        const [last, min, max, mean] = [metric.last, metric.min, metric.max, metric.mean].map((value) => (typeof value === "number" ? value : String(value ?? "–")));
        this.found.push({ logger, name, last, min, max, mean, count: Number(count) || 0, nonfinite: Number(nan_count) + Number(infinite_count) || 0, best: best && isNumber(best.value) && isNumber(best.step) ? best : null });
      }
    }
    return this.found;
  }

  /* The best value of a curve, as the summary has it. There the metric lacks the prefix; the longest name that fits is its own. */
  findBest(curve) {
    if (curve.rank > 0) return null;
    const fits = this.metrics.filter((metric) => metric.logger === curve.logger && ("/" + curve.name).endsWith("/" + metric.name));
    const metric = fits.sort((a, b) => b.name.length - a.name.length)[0];
    return metric ? metric.best : null;
  }

  get ledger() {
    const last = [...this.attempts].reverse().find((attempt) => Object.keys(attempt.ledger || {}).length > 0);
    const shares = last ? last.ledger : (this.loggers.find((logger) => logger.ledger) || {}).ledger;
    return Object.entries(shares || {}).filter(([, seconds]) => isNumber(seconds) && seconds > 0);
  }
}

/* Names of nested members as `a.b`, with their values as texts. A map, because a name may be `__proto__`. */
function flatten(value, prefix = "", found = new Map()) {
  if (value === null || typeof value !== "object" || Array.isArray(value)) {
    if (value !== undefined && found.size < 5000 && prefix) found.set(prefix, typeof value === "string" ? value : JSON.stringify(value));
    return found;
  }
  for (const [name, member] of Object.entries(value)) flatten(member, prefix ? prefix + "." + name : name, found);
  return found;
}

const runs = data.runs.map((raw, index) => new Run(raw, index));

/* Equal names get the folder, then the place. */
function labelRuns() {
  const same = groupBy(runs, (run) => run.name);
  for (const run of runs) run.label = (same.get(run.name).length > 1 && run.dir) || run.name || run.dir || "run";
}

labelRuns();

/* The names that differ between the runs, most settings first. */
function findDiffering() {
  const settings = groupBy(runs.flatMap((run) => [...run.settings]), ([name]) => name);
  const differs = (known) => known.length < runs.length || known.some(([, value]) => value !== known[0][1]);
  return [...settings].filter(([, known]) => differs(known)).map(([name]) => name);
}

const STATE_MARKS = { running: "▶", finished: "✓", failed: "✕", killed: "✕", interrupted: "■", preempted: "■", unknown: "?" };
const formatState = (state) => `${STATE_MARKS[state] || "?"} ${state}`;
