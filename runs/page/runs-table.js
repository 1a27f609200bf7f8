/* The table of runs: sorted by clicks, filtered by text, with boxes that select what is drawn. */

const FIRST_RUNS = 100;
const MOST_SUMMARIES = 6;
const MOST_SETTINGS = 12;
/* The beginning of the names that a program gives its metrics, which a summary leaves out. */
const OWN_METRICS = "metrics/";

const table = { sort: null, isDescending: false, filter: "", shown: FIRST_RUNS };

/* A column: its head, the value to sort by, and how the text of a run follows from the value or the run. */
function createColumns() {
  const fixed = [
    { head: "Name", isText: true, value: (run) => run.label, format: String },
    { head: "State", isText: true, value: (run) => run.state, format: formatState, kind: (run) => "state is-" + run.state },
    { head: "Started", value: (run) => run.start, format: formatTime },
    { head: "Steps", value: (run) => run.lastStep, format: formatCount },
    { head: "Duration", value: (run) => run.duration, format: formatDuration },
    { head: "Throughput", value: (run) => run.throughput, format: (_, run) => run.throughputText },
  ];
  for (const run of runs) run.results = listResults(run);
  const known = groupBy(runs.flatMap((run) => [...run.results.keys()]), (name) => name);
  const names = [...known].sort((a, b) => b[1].length - a[1].length).slice(0, MOST_SUMMARIES).map(([name]) => name);
  const results = names.map((name) => ({ head: name, title: name + ": the best value, else the last", value: (run) => run.results.get(name)?.(), format: formatValue }));
  const settings = findDiffering().slice(0, MOST_SETTINGS).map((name) => ({ head: name, isText: true, title: name + " in the config", value: (run) => toNumber(run.settings.get(name)), format: (_, run) => run.settings.get(name) ?? "–" }));
  return [...fixed, ...results, ...settings];
}

/* Functions that return the results of a run, by metric. A run without a summary has the last values of its curves, as far as they are loaded. */
function listResults({ metrics, byName }) {
  /* The first metric of a name counts, so it comes last. */
  if (metrics.length > 0) return new Map([...metrics].reverse().map((metric) => [metric.name, () => (metric.best ? metric.best.value : metric.last)]));
  const own = [...byName].filter(([name]) => name.startsWith(OWN_METRICS));
  return new Map(own.map(([name, [curve]]) => [name.slice(OWN_METRICS.length), () => curve.readAll().values.at(-1)]));
}

let columns = createColumns();

function toNumber(text) {
  const number = Number(text);
  return text !== undefined && text !== "" && isNumber(number) ? number : text;
}

/* Numbers before texts, unknown values last. */
function compareValues(a, b) {
  const [isA, isB] = [a, b].map((value) => isKnown(value) && !Number.isNaN(value));
  if (!isA || !isB) return isA ? -1 : isB ? 1 : 0;
  if (typeof a === "number" && typeof b === "number") return (a - b) * (table.isDescending ? -1 : 1);
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
  return a.localeCompare(b, undefined, { numeric: true }) * (table.isDescending ? -1 : 1);
}

function listRuns() {
  const words = table.filter.toLowerCase().split(/\s+/).filter(Boolean);
  const found = runs.filter((run) => {
    run.text ??= [run.label, run.name, run.dir, run.id, run.state, ...[...run.settings].map(([name, value]) => `${name}=${value}`)].join("\n").toLowerCase();
    return words.every((word) => run.text.includes(word));
  });
  if (table.sort) found.sort((a, b) => compareValues(table.sort.value(a), table.sort.value(b)));
  return found;
}

function drawRunsTable() {
  const found = listRuns();
  const heads = columns.map((column) => {
    const isSorted = table.sort?.head === column.head;
    const button = create("button", { title: column.title || column.head, click: () => sortBy(column) }, create("span", { text: clip(column.head, 28) }), create("span", { "aria-hidden": "true", text: isSorted ? (table.isDescending ? " ↓" : " ↑") : "" }));
    return create("th", { scope: "col", class: !column.isText && "number", "aria-sort": isSorted ? (table.isDescending ? "descending" : "ascending") : "none" }, button);
  });
  const rows = found.slice(0, table.shown).map((run) => {
    const isSelected = view.selected.has(run.index);
    const box = create("input", { type: "checkbox", "aria-label": "Show " + run.label, change: (event) => toggleRun(run, event.target.checked) });
    box.checked = isSelected;
    const cells = columns.map((column, at) => {
      const text = column.format(column.value(run), run);
      return create(at ? "td" : "th", { scope: !at && "row", class: column.kind ? column.kind(run) : !column.isText && "number", title: text.length > 40 && clip(text, 1000), text: clip(text, 40) });
    });
    const mark = create("td.pick", {}, create("label", {}, box, isSelected ? createSwatch(numberOf(run)) : create("span.swatch")));
    return create("tr", {}, mark, ...cells);
  });
  const shown = create("th", { scope: "col" }, create("span.sr", { text: "Shown" }));
  const drawn = createTable("Runs; boxes choose what is drawn", [shown, ...heads], create("tbody", {}, ...rows));
  const more = create("button.more", { text: `Show more of ${formatCount(found.length - table.shown)}`, hidden: found.length <= table.shown, click: showMoreRuns });
  const place = find("runs-table");
  /* The hint stands below the table, which may be wider than the screen. */
  keepFocus(place, () => place.replaceChildren(drawn, rows.length > 0 ? more : createHint("No run matches. Clear the filter to see all.")));
  const count = view.selected.size;
  const drawnAll = count > MOST_DRAWN ? `, the first ${MOST_DRAWN} are drawn` : "";
  find("runs-count").textContent = `${formatCount(found.length)} of ${plural(runs.length, "run")} · ${formatCount(count)} selected${drawnAll}`;
}

/* Shows more rows; the keyboard goes on at the first of them. */
function showMoreRuns() {
  const before = table.shown;
  table.shown += FIRST_RUNS;
  drawRunsTable();
  find("runs-table").querySelectorAll("input")[before].focus();
}

function sortBy(column) {
  table.isDescending = table.sort?.head === column.head ? !table.isDescending : false;
  table.sort = column;
  drawRunsTable();
}

function toggleRun(run, isSelected) {
  const selected = new Set(view.selected);
  selected[isSelected ? "add" : "delete"](run.index);
  select(selected);
}
