/* Fingers on a chart: two of them zoom, and one moves what a zoom shows. The browser scrolls the page up and down, and a tap is a click. */

/* Pixels that a finger moves before it drags, and least pixels between two fingers: closer ones would zoom without end. */
const LEAST_DRAG = 8;
const LEAST_SPAN = 24;

/* Where the fingers are, by the numbers that the browser gives them. */
const fingers = new Map();
/* The chart that they hold, where they took it, and what it showed then. */
let grip = null;
/* Whether the fingers, or the last ones, have moved the chart: then their end is no tap. */
let hasDragged = false;

function measureFingers() {
  const [{ x, y }, other] = fingers.values();
  return other ? { middle: (x + other.x) / 2, span: Math.max(Math.hypot(x - other.x, y - other.y), LEAST_SPAN) } : { middle: x, span: LEAST_SPAN };
}

function takeHold(chart) {
  grip = { chart, range: chart.range, whole: xExtent(chart.runs), count: fingers.size, ...measureFingers() };
}

function putFinger(chart, { pointerType, isPrimary, pointerId, clientX: x, clientY: y }) {
  /* The end of a finger is not heard where its chart has gone. */
  if (isPrimary) {
    fingers.clear();
    hasDragged = false;
  }
  if (pointerType !== "touch" || fingers.size === 2) return;
  fingers.set(pointerId, { x, y });
  takeHold(fingers.size === 2 ? grip.chart : chart);
}

function moveFinger({ pointerId, clientX: x, clientY: y }) {
  if (!fingers.has(pointerId)) return;
  fingers.set(pointerId, { x, y });
  const { chart, range: [from, to], whole: [least, greatest], count, middle, span } = grip;
  const now = measureFingers();
  const isDrag = hasDragged || count === 2 || Math.abs(now.middle - middle) >= LEAST_DRAG;
  if (!chart.plot || !isDrag || (count === 1 && !view.zoom)) return;
  hasDragged = true;
  const { left, width } = chart.plot.over.getBoundingClientRect();
  const size = ((to - from) * span) / now.span;
  const held = from + ((to - from) * (middle - left)) / width;
  const low = Math.min(Math.max(held - (size * (now.middle - left)) / width, least), greatest - size);
  const zoom = size < greatest - least ? [low, low + size] : null;
  if (zoom && !isRange(zoom)) return;
  /* All that follows from a zoom takes long, and waits for the last finger. */
  view.zoom = zoom;
  live.forEach((other) => other.applyZoom());
}

function liftFinger({ pointerId }) {
  if (!fingers.delete(pointerId)) return;
  if (fingers.size > 0) takeHold(grip.chart);
  else if (hasDragged) setZoom(view.zoom);
}
