/* The state of the view. Parts of the page listen for the kinds of changes that concern them. */

const view = {
  selected: new Set(),
  /* `step`, `time`, `relative`, or the name of a metric behind a "=". */
  x: "step",
  /* The setting whose values group the runs; `*` is one group of all. */
  group: "",
  isLogarithmic: false,
  smoothing: 0,
  hasAllRanks: false,
  search: null,
  zoom: null,
  /* A moment that both the lines and the curves show: `run`, `time` in seconds, `step`. */
  moment: null,
  logRun: null,
  theme: "auto",
};

const listeners = [];

function listen(kinds, call) {
  listeners.push({ kinds, call });
}

function change(kind, values) {
  Object.assign(view, values);
  for (const { kinds, call } of listeners) if (kinds.includes(kind)) call();
}

/* Runs that are selected at first, and most runs that are drawn at once. */
const FIRST_SELECTED = 8;
const MOST_DRAWN = 100;

const selectedRuns = () => runs.filter((run) => view.selected.has(run.index));

function setMoment(run, time, step) {
  change("moment", { moment: { run, time, step }, logRun: run });
}

/* Okabe and Ito's colors, which the color-blind can tell apart; darker or lighter where the ground asks for it. */
const PALETTES = {
  light: ["#0072b2", "#d55e00", "#009e73", "#b7568a", "#b87f00", "#3a93c9", "#4b4f54", "#8f8500"],
  dark: ["#4aa8e0", "#f07f3c", "#2cc295", "#e29ac2", "#f0b429", "#9bd8fb", "#d9dde1", "#f0e442"],
};
const DASHES = [[], [7, 4], [2, 3], [10, 3, 2, 3]];
const SWATCH_WIDTH = 22;

const prefersDark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => view.theme === "dark" || (view.theme === "auto" && prefersDark.matches);

const readColor = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/* The color and the dashes of a series. Runs differ by color, then by dashes. */
function styleOf(number) {
  const colors = PALETTES[isDark() ? "dark" : "light"];
  return { color: colors[number % colors.length], dash: DASHES[Math.floor(number / colors.length) % DASHES.length] };
}

/* Numbers of the selected runs: the color of a run stays as long as it is selected. */
const numbers = new Map();

function renumber() {
  for (const index of [...numbers.keys()]) if (!view.selected.has(index)) numbers.delete(index);
  const used = new Set(numbers.values());
  let next = 0;
  for (const run of selectedRuns()) {
    if (numbers.has(run.index)) continue;
    while (used.has(next)) next++;
    used.add(next);
    numbers.set(run.index, next);
  }
}

function select(indexes) {
  const logRun = indexes.has(view.logRun?.index) ? view.logRun : runs.find((run) => indexes.has(run.index));
  view.selected = indexes;
  renumber();
  change("selection", { logRun, zoom: null });
}

function setTheme(theme) {
  view.theme = theme;
  document.documentElement.className = isDark() ? "theme-dark" : "";
  change("theme", {});
}

/* A swatch with the dashes of the line. A table has many, and a canvas for each takes a millisecond. */
function createSwatch(number) {
  const { color, dash } = styleOf(number);
  const swatch = create("span.swatch", { "aria-hidden": "true" });
  let end = 0;
  const parts = (dash.length ? dash : [SWATCH_WIDTH]).map((length, at) => `${at % 2 ? "transparent" : color} ${end}px ${(end += length)}px`);
  swatch.style.background = `repeating-linear-gradient(90deg, ${parts}) 0/100% 3px no-repeat`;
  return swatch;
}
