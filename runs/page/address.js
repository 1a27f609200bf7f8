/* The address says behind its "#" what a person has chosen, so that a reload and a link show the same. Anybody may have written a link: only what a person could have chosen here counts. */

/* Most characters that are read, of a text among them, and of an expression: a long one may take forever. */
const MOST_ADDRESS = 65536;
const MOST_TEXT = 300;
const MOST_EXPRESSION = 64;
/* Milliseconds after which a change is in the address: browsers allow about three changes in a second. */
const ADDRESS_AFTER = 400;

/* Controls by their keys in the address. */
const CONTROLS = [["x", "x-axis"], ["group", "group"], ["y", "log-y"], ["smooth", "smooth"], ["ranks", "ranks"], ["search", "search"], ["filter", "runs-filter"], ["level", "log-level"], ["lines", "log-search"]];

/* The runs that are chosen where the address names none. */
let firstChosen = "";

const listIndexes = (indexes) => [...indexes].sort().join();

function chooseFirst() {
  const first = new Set(runs.slice(0, FIRST_SELECTED).map((run) => run.index));
  firstChosen = listIndexes(first);
  select(first);
}

/* Runs by their names in the address: the id, or the folder where several runs have one id. */
function nameRuns() {
  const byId = groupBy(runs, (run) => run.id);
  return new Map(runs.map((run) => [(byId.get(run.id).length === 1 && run.id) || run.key || run.dir, run]));
}

/* Some short expressions, too, take forever: those that repeat what repeats. */
function isQuick(expression) {
  try {
    return expression.length <= MOST_EXPRESSION && !/\)[*+?{]|([*+?{].*){3}/.test(expression) && Boolean(new RegExp(expression));
  } catch {
    return false;
  }
}

const fits = (key, text) => text.length <= MOST_TEXT && (key !== "search" || isQuick(text));

/* Gives a control what the address says, if the control can have that. */
function fillControl(key, control, text) {
  const said = fits(key, text) ? text : "";
  if (control.type === "checkbox") {
    control.checked = said === control.value;
    return;
  }
  control.value = said;
  if (said && control.value === said) return;
  if (control.options) control.selectedIndex = 0;
  else control.value = control.defaultValue;
}

/* The text of a control in the address; a control that is as at first has none. */
function tellControl(key, control) {
  const { value } = control;
  const isFirst = control.type === "checkbox" ? !control.checked : control.options ? control.selectedIndex <= 0 : value === control.defaultValue;
  return isFirst || !fits(key, value) ? "" : value;
}

/* Digits that tell the ends of a zoom from those a pixel away. */
const digitsOf = ([low, high]) => Math.min(Math.max(Math.ceil(Math.log10(Math.max(Math.abs(low), Math.abs(high)) / (high - low))), 0) + 4, 17);

/* Shows what the address says, and all else as at first. */
function readAddress() {
  const { hash } = location;
  const said = new URLSearchParams(hash.length > MOST_ADDRESS ? "" : hash.slice(1));
  const say = (key) => said.get(key) ?? "";
  const number = (key) => Number(say(key) || NaN);
  setTheme(["light", "dark"].find((theme) => theme === say("theme")) || "auto");
  /* The metrics of live runs come later. */
  if (data.list && say("x")[0] === "=" && fits("x", say("x"))) {
    view.x = say("x");
    drawAxes();
  }
  for (const [key, id] of CONTROLS) fillControl(key, find(id), say(key));
  takeControls();
  const named = nameRuns();
  const names = said.getAll("run");
  const chosen = names[0] === "*" ? runs : names.map((name) => named.get(name)).filter(Boolean);
  chooseFirst();
  if (chosen.length > 0 || names[0] === "") select(new Set(chosen.map((run) => run.index)));
  const known = (key) => selectedRuns().find((run) => run === named.get(say(key)));
  const zoom = [number("from"), number("to")];
  if (isRange(zoom)) setZoom(zoom);
  const [run, time, step] = [known("at"), number("time"), number("step")];
  if (run && isNumber(time) && isNumber(step)) setMoment(run, time, step);
  const logRun = known("log");
  if (logRun) change("log", { logRun });
}

/* Writes what a person has chosen into the address. */
function writeAddress() {
  const said = new URLSearchParams();
  const say = (key, value) => isKnown(value) && value !== "" && said.append(key, value);
  const names = new Map([...nameRuns()].map(([name, run]) => [run, name]));
  const chosen = selectedRuns();
  if (listIndexes(view.selected) !== firstChosen) {
    const told = chosen.length === runs.length ? ["*"] : chosen.slice(0, MOST_DRAWN).map((run) => names.get(run));
    for (const name of told.length > 0 ? told : [""]) said.append("run", name);
  }
  for (const [key, id] of CONTROLS) say(key, tellControl(key, find(id)));
  const { zoom, moment, logRun, theme } = view;
  if (zoom) zoom.forEach((x, at) => say(["from", "to"][at], Number(x.toPrecision(digitsOf(zoom)))));
  const isShown = moment && view.selected.has(moment.run.index);
  if (isShown) {
    say("at", names.get(moment.run));
    say("step", moment.step);
    say("time", Math.round(moment.time * 1000) / 1000);
  }
  if (logRun !== (isShown ? moment.run : chosen[0])) say("log", names.get(logRun));
  if (theme !== "auto") say("theme", theme);
  const text = String(said).replace(/%(2F|3D)/g, decodeURIComponent);
  try {
    history.replaceState(null, "", text ? "#" + text : location.href.split("#")[0]);
  } catch {
    /* A browser may refuse it to a page in a frame of another page. */
  }
}

/* Has the address follow what a person chooses, and the page follow an address that a person edits. */
function startAddress() {
  const writeSoon = debounce(ADDRESS_AFTER, writeAddress);
  listen(["selection", "zoom", "moment", "theme"], writeSoon);
  for (const kind of ["input", "change"]) addEventListener(kind, writeSoon);
  addEventListener("hashchange", () => location.reload());
}
