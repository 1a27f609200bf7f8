/* The x axis: the step, a time, or the values of a metric, whose name stands behind a "=". */

/* Metrics that one can choose for x. */
const MOST_AXES = 300;

const isMetricAxis = () => view.x[0] === "=";

/* The values that are the x of a curve, as far as the run has them. */
function findAxis({ run, rank, logger }) {
  const own = run.byName.get(view.x.slice(1)) || [];
  const ofRank = own.filter((curve) => curve.rank === rank);
  return ofRank.find((curve) => curve.logger === logger) || ofRank[0] || own[0];
}

/* The value at a step: between two steps that are known it lies between their values, beyond them it is the nearest. */
function interpolate({ steps, values }, step) {
  const at = findNearest(steps, step);
  const other = steps[at] < step ? at + 1 : at - 1;
  if (steps[at] === step || steps[other] === undefined || steps[other] === steps[at]) return values[at];
  return values[at] + ((values[other] - values[at]) * (step - steps[at])) / (steps[other] - steps[at]);
}

/* The x of points of a curve. */
function xNumbers(points, curve) {
  if (view.x === "step") return points.steps;
  if (view.x === "time") return points.times;
  if (view.x === "relative") return Float64Array.from(points.times, (time) => time - curve.run.start);
  const axis = findAxis(curve)?.readAll();
  return Float64Array.from(points.steps, (step) => (axis ? interpolate(axis, step) : NaN));
}

/* The x of a moment, as a curve of the run has it. */
function xOfMoment(curve, time, step) {
  return xNumbers({ times: [time], steps: [step] }, curve)[0];
}

/* The range of x over all curves of these runs, so that charts of the same runs stand below each other. */
function xExtent(runs) {
  let [low, high] = [Infinity, -Infinity];
  const add = (x) => {
    if (!isNumber(x)) return;
    low = Math.min(low, x);
    high = Math.max(high, x);
  };
  for (const run of new Set(runs)) {
    if (isMetricAxis()) (run.byName.get(view.x.slice(1)) || []).forEach((curve) => curve.readAll().values.forEach(add));
    else for (const curve of run.curves) [[curve.time0, curve.step0], [curve.time1, curve.step1]].forEach((end) => add(xOfMoment(curve, ...end)));
  }
  if (!(low <= high)) return [0, 1];
  const room = Math.max(0.5, Math.abs(low) * 1e-6);
  return low === high ? [low - room, high + room] : [low, high];
}

/* The width of an axis of values, in pixels: charts stand below each other where their ticks are short. */
const measureTicks = (_, ticks) => Math.max(56, ...(ticks || []).map((text) => 12 + 7 * text.length));

function formatX(x) {
  if (view.x === "time") return formatTime(x);
  return view.x === "relative" ? formatDuration(x) : formatTick(x);
}

/* The clock at the ticks of an axis of times, as fine as the ticks are, and the date where a day begins. */
function formatTimes(_, ticks, axis, space, seconds) {
  let before = "";
  return ticks.map((time) => {
    const [date, clock = ""] = formatTime(time).split(" ");
    if (seconds >= 86400) return date;
    const text = seconds < 1 ? clock + (time % 1).toFixed(3).slice(1) : clock.slice(0, seconds < 60 ? 8 : 5);
    const isNew = date !== before;
    before = date;
    return isNew ? text + "\n" + date : text;
  });
}

/* The x of a band's column; steps are whole. */
const formatColumn = (x) => (view.x === "step" ? formatCount(Math.round(x)) : formatX(x));

function drawAxes() {
  const names = listNames().slice(0, MOST_AXES);
  const chosen = view.x.slice(1);
  if (isMetricAxis() && !names.includes(chosen)) names.push(chosen);
  fillChoices("x-metrics", names.map((name) => ["=" + name, name]), view.x);
}
