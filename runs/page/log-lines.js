/* Text lines beside the curves. A line and a step of the same moment lead to each other. */

const LEVELS = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR"];
const log = { run: null, least: 0, search: "", items: [], active: -1 };

/* The columns of a line; the whole line is the message if it has none. */
function parseLine([millis, rank, text]) {
  const columns = text.split(" | ");
  const level = columns.length > 2 ? LEVELS.indexOf(columns[1].trim()) : -1;
  if (level < 0) {
    const named = /\b(TRACE|DEBUG|INFO|WARN|ERROR)\b/.exec(text.slice(0, 80));
    return { millis, rank, level: named ? LEVELS.indexOf(named[1]) : -1, time: "", origin: "", message: text };
  }
  return { millis, rank, level, time: columns[0], origin: columns[2], message: columns.slice(3).join(" | ") };
}

function linesOf(run) {
  if (!run) return [];
  if (!run.parsed) {
    run.parsed = run.lines.map(parseLine);
    /* Further lines of a message belong to its level. */
    run.parsed.forEach((line, at) => {
      if (line.level < 0 && at > 0) line.level = run.parsed[at - 1].level;
    });
  }
  return run.parsed;
}

function drawLines() {
  const run = view.logRun;
  const chosen = selectedRuns();
  log.run = run;
  find("log-run").hidden = chosen.length < 2;
  fillChoices("log-run", chosen.slice(0, 200).map(({ index, label }) => [index, label]), run?.index);
  const all = linesOf(run);
  const wanted = log.search.toLowerCase();
  const lines = all.filter((line) => (line.level < 0 || line.level >= log.least) && (!wanted || (line.origin + " " + line.message).toLowerCase().includes(wanted)));
  log.active = -1;
  const hasRanks = lines.some((line) => line.rank > 0);
  log.items = lines.map((line, at) => createItem(line, at, hasRanks));
  const list = find("log-lines");
  if (log.items.length === 0) {
    list.replaceChildren(createHint(!run ? "Select a run to read its lines." : all.length === 0 ? "This run has left no text lines." : "No line matches. Clear the search and the level to see all."));
  } else {
    const items = create("ol", { class: lines.some((line) => line.time) && "has-times", role: "listbox", tabindex: 0, "aria-label": "Lines of " + run.label, keydown: pressInLines }, ...log.items.map(({ element }) => element));
    list.replaceChildren(items);
    list.scrollTop = list.scrollHeight;
  }
  const earlier = run && run.earlier_lines ? " Earlier ones are in training.log." : "";
  find("log-count").textContent = run ? (lines.length === all.length ? plural(all.length, "line") : `${formatCount(lines.length)} of ${plural(all.length, "line")}`) + "." + earlier : "";
  showMomentInLines();
}

function createItem(line, at, hasRanks) {
  return { line, element: create("li", { role: "option", id: "line-" + at, "aria-selected": "false", class: line.level >= 0 && "is-" + LEVELS[line.level].toLowerCase(), title: line.time || null, click: () => chooseLine(at) },
    create("span.clock", { text: line.time ? line.time.slice(11, 19) : "" }),
    create("span.level", { text: line.time && line.level >= 0 ? LEVELS[line.level] : "" }),
    create("span.message", {}, hasRanks && line.time && create("span.muted", { text: `[${line.rank}] ` }), line.message)) };
}

function chooseLine(at) {
  const { line } = log.items[at];
  const run = view.logRun;
  if (line.millis === null) return activate(at, false);
  const time = line.millis / 1000;
  setMoment(run, time, run.stepAt(time));
  activate(at, false);
}

function activate(at, doesScroll) {
  if (log.items[log.active]) log.items[log.active].element.setAttribute("aria-selected", "false");
  log.active = at;
  const item = log.items[at];
  if (!item) return;
  item.element.setAttribute("aria-selected", "true");
  const list = find("log-lines");
  list.firstElementChild.setAttribute("aria-activedescendant", item.element.id);
  if (!doesScroll) return;
  list.scrollTop = item.element.offsetTop - list.clientHeight / 3;
}

/* Selects the newest line that is not later than the moment. Ranks and processes may write out of order. */
function showMomentInLines() {
  const { moment } = view;
  if (!moment || moment.run !== view.logRun) return;
  const millis = moment.time * 1000;
  let found = -1;
  log.items.forEach(({ line }, at) => {
    if (line.millis !== null && line.millis <= millis + 1 && !(log.items[found]?.line.millis > line.millis)) found = at;
  });
  if (found < 0 && log.items.length > 0) found = 0;
  activate(found, true);
}

function pressInLines(event) {
  const last = log.items.length - 1;
  const steps = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity };
  if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    if (log.active >= 0) chooseLine(log.active);
  } else if (event.key in steps) {
    event.preventDefault();
    const from = log.active < 0 ? (event.key === "ArrowUp" ? last + 1 : -1) : log.active;
    activate(Math.min(Math.max(from + steps[event.key], 0), last), true);
  }
}
