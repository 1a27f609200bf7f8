/* Lines of a chart: what a curve becomes on the chosen axis, thinned to columns of pixels, and bands over the runs of a group. */

/* Columns of a band, and points of several lines or of a cloud from which on they are thinned. */
const BAND_COLUMNS = 300;
const MANY_POINTS = 20000;
const MANY_DOTS = 5000;
/* Lines from which on each is as thin as the screen can draw it, and has columns of two pixels. A browser paints wider ones ten times slower. */
const MANY_LINES = 32;

/* Sorted and strictly increasing x, as the chart wants them; equal ones move apart by a trifle, so that no value is lost. `places` tells where a point stands in the curve, `last` is the place of the newest. */
function createLine(xs, ys) {
  let places = new Uint32Array(xs.length);
  let count = 0;
  let isOrdered = true;
  let before = -Infinity;
  for (let at = 0; at < xs.length; at++) {
    if (!isNumber(xs[at])) continue;
    if (xs[at] < before) isOrdered = false;
    before = xs[at];
    places[count++] = at;
  }
  places = places.subarray(0, count);
  const last = places[count - 1];
  if (!isOrdered) places.sort((a, b) => xs[a] - xs[b]);
  const line = { x: new Float64Array(count), y: new Array(count), places, isOrdered, last };
  before = -Infinity;
  const { isLogarithmic } = view;
  for (let at = 0; at < count; at++) {
    const x = xs[places[at]];
    const y = ys[places[at]];
    line.x[at] = before = x > before ? x : before + Math.max(Math.abs(before) * 1e-12, 1e-9);
    line.y[at] = isNumber(y) && !(isLogarithmic && y <= 0) ? y : null;
  }
  return line;
}

/* The exponential moving average, without the pull of its beginning. */
function smoothValues(values, weight) {
  let [sum, share] = [0, 0];
  return values.map((value) => {
    if (value === null) return null;
    sum = sum * weight + value * (1 - weight);
    share = share * weight + (1 - weight);
    return sum / share;
  });
}

/* The place of the first point whose x is not below. */
function findFrom(line, x) {
  const at = findNearest(line.x, x);
  return line.x[at] < x ? at + 1 : at;
}

/* Thins a line to columns: the least and the greatest value of each, at x that all lines share. */
function thinLine(line, [low, high], columns) {
  const size = (high - low) / columns;
  const thinned = { x: [], y: [] };
  const add = (x, y) => {
    thinned.x.push(x);
    thinned.y.push(y);
  };
  let at = findFrom(line, low);
  if (at > 0) add(line.x[at - 1], line.y[at - 1]);
  while (line.x[at] <= high) {
    const column = Math.min(Math.floor((line.x[at] - low) / size), columns - 1);
    const end = column === columns - 1 ? Infinity : low + (column + 1) * size;
    let [least, greatest] = [at, at];
    do {
      const y = line.y[at];
      if (y !== null && !(line.y[least] <= y)) least = at;
      if (y !== null && !(line.y[greatest] >= y)) greatest = at;
      at++;
    } while (line.x[at] < end && line.x[at] <= high);
    const place = low + (column + 0.25) * size;
    add(place, line.y[Math.min(least, greatest)]);
    if (least !== greatest) add(place + 0.5 * size, line.y[Math.max(least, greatest)]);
  }
  if (at < line.x.length) add(line.x[at], line.y[at]);
  return thinned;
}

/* The values of a line from one x up to another, or the one between its points that stands there. */
function takeColumn(line, begin, end, x) {
  let at = findFrom(line, begin);
  const before = at - 1;
  const found = [];
  for (; line.x[at] < end; at++) if (line.y[at] !== null) found.push(line.y[at]);
  if (found.length > 0 || before < 0 || at >= line.x.length || line.y[before] === null || line.y[at] === null) return found;
  return [line.y[before] + ((line.y[at] - line.y[before]) * (x - line.x[before])) / (line.x[at] - line.x[before])];
}

/* The mean, the least and the greatest value over several runs. A few points stand where they are, many are put into columns. `lines` have the extremes; `means` have, for each run, the lines of what is between them. A run counts once, whatever number of ranks it has. */
function createBand(lines, means, [low, high]) {
  const isShort = lines.every((line) => line.x.length <= BAND_COLUMNS);
  let begins = isShort ? [...new Set(lines.flatMap((line) => Array.from(line.x)))].filter((x) => x >= low && x <= high).sort((a, b) => a - b) : [];
  let size = 0;
  if (!isShort || begins.length > BAND_COLUMNS) {
    size = (high - low) / BAND_COLUMNS;
    begins = Array.from({ length: BAND_COLUMNS }, (_, column) => low + column * size);
  }
  const band = { x: begins.map((begin) => begin + size / 2), mean: [], low: [], high: [] };
  begins.forEach((begin, column) => {
    const isLast = column + 1 === begins.length;
    const end = isLast ? high + 1e-9 * Math.abs(high) + 1e-9 : begins[column + 1];
    const take = (line) => takeColumn(line, begin, end, band.x[column]);
    let [least, greatest] = [Infinity, -Infinity];
    for (const line of lines) for (const value of take(line)) {
      least = Math.min(least, value);
      greatest = Math.max(greatest, value);
    }
    const own = means.map((ofRun) => average(ofRun.map((line) => average(take(line))).filter(isKnown))).filter(isKnown);
    const isEmpty = !(least <= greatest) || own.length === 0;
    band.mean.push(isEmpty ? null : average(own));
    band.low.push(isEmpty ? null : least);
    band.high.push(isEmpty ? null : greatest);
  });
  return band;
}

const average = (values) => (values.length > 0 ? addUp(values) / values.length : null);

/* The group of a run: `*` is one of all, else the value of a setting. */
const groupOf = (run) => (view.group === "*" ? "all" : `${view.group} = ${run.settings.get(view.group) ?? "–"}`);

const numberOfGroup = (group) => [...new Set(selectedRuns().map(groupOf))].indexOf(group);

/* The number that gives a run its color. */
const numberOf = (run) => (view.group ? numberOfGroup(groupOf(run)) : numbers.get(run.index));

function drawGroupings() {
  const names = findDiffering().slice(0, MOST_SETTINGS * 4);
  if (view.group.length > 1 && !names.includes(view.group)) names.push(view.group);
  find("group-label").hidden = runs.length < 2;
  fillChoices("group", [["", "no group"], ["*", "all"], ...names.map((name) => [name, name])], view.group);
}
