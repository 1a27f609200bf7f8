/* Everything beside the curves: the overview of one run, ledger, summary, config, environment, attempts. */

/* The uses of time in their order, each with its color, and the colors of those that a program names. */
const SHARES = { step: "#0072b2", data: "#e69f00", eval: "#2bb38a", checkpoint: "#cc79a7", startup: "#56b4e9", idle: "#d5dbe0", stall: "#ff6b57", down: "#8f989f", lost: "#b79cf0", other: "#b9bdc1" };
const OWN_SHARES = ["#c9bd3a", "#7fd1c7", "#e8a07b", "#a3c46a"];
const MOST_COMPARED = 8;
const FIRST_MEMBERS = 200;

function createCard(name, value, kind) {
  return create("div.card", {}, create("dt", { text: name }), create("dd", { class: kind, text: value }));
}

function drawOverview() {
  const place = find("overview");
  place.hidden = runs.length !== 1;
  if (place.hidden) return;
  const [run] = runs;
  const cards = [
    createCard("State", formatState(run.state) + (run.exit_code ? `, exit code ${run.exit_code}` : ""), "state is-" + run.state),
    createCard("Steps", formatCount(run.lastStep)),
    createCard("Duration", formatDuration(run.duration)),
    createCard("Throughput", run.throughputText),
  ];
  for (const metric of run.metrics.filter((metric) => metric.best).slice(0, 3)) cards.push(createCard("Best " + metric.name, formatPoint(metric.best)));
  if (run.events.length > 0) cards.push(createCard("Events", formatCount(run.events.length + run.earlier_events), worstOf(run)));
  if (run.attempt_count > 1) cards.push(createCard("Attempts", formatCount(run.attempt_count)));
  if (run.world_size > 1) cards.push(createCard("Ranks", formatCount(run.world_size)));
  place.replaceChildren(create("dl.cards", {}, ...cards));
}

/* A section that is filled when it is opened. */
function createSection(section, hint, shown) {
  const body = create("div.section-body");
  section.body = body;
  const details = create("details.section", { open: section.isOpen }, create("summary", {}, create("h2", { text: section.title }), create("span.muted", { text: hint })), body);
  const open = () => {
    section.isOpen = details.open;
    if (details.open && !body.firstChild) body.append(...section.fill(shown));
  };
  details.addEventListener("toggle", open);
  open();
  return details;
}

const isAmount = (cell) => cell !== undefined && typeof cell !== "string" && !(cell instanceof Node);

/* Cells are texts, numbers, elements, or objects with the text of a number. */
function createRow(row) {
  return create("tr", {}, ...row.map((cell, at) => {
    const text = cell instanceof Node ? "" : String(isAmount(cell) ? cell?.text ?? formatValue(cell) : cell);
    return create(at ? "td" : "th", { scope: !at && "row", class: isAmount(cell) && "number", title: text.length > 200 && clip(text, 3000) }, cell instanceof Node ? cell : clip(text, 200));
  }));
}

/* Rows of long tables that a person has asked for, by caption. A table that is drawn again has as many. */
const askedRows = new Map();

/* A table that begins with so many rows, and a button for more of them. `toCells` makes the cells of the rows that are shown. */
function createLongTable(caption, heads, rows, most, toCells = (row) => row) {
  const body = create("tbody");
  const add = (count) => {
    body.append(...rows.slice(body.childElementCount, count).map((row) => createRow(toCells(row))));
    more.hidden = count >= rows.length;
  };
  const asked = () => askedRows.get(caption) ?? most;
  const more = create("button.more", { text: "Show more", click: () => add(askedRows.set(caption, asked() + most).get(caption)) });
  add(asked());
  const first = rows.length > 0 ? toCells(rows[0]) : [];
  const cells = heads.map((text, at) => create("th", { scope: "col", class: isAmount(first[at]) && "number", text: clip(text, 60) }));
  return [create("div.scroll", { tabindex: 0, role: "region", "aria-label": caption }, createTable(caption, cells, body)), more];
}

/* Names and values of several runs side by side, those that differ first. */
function createComparison(caption, shown, read) {
  const maps = shown.map(read);
  const names = [...new Set(maps.flatMap((map) => [...map.keys()]))];
  if (names.length === 0) return [createHint("There is none. Call log_config to find it here.")];
  const differs = (name) => maps.some((map) => map.get(name) !== maps[0].get(name));
  const sorted = shown.length > 1 ? [...names.filter(differs), ...names.filter((name) => !differs(name))] : names;
  const toRow = (name) => {
    const row = [name, ...maps.map((map) => map.get(name) ?? "–")];
    return row.map((cell, at) => (at === 0 ? create("span", { class: differs(name) && "differs", text: clip(name, 200) }) : /^https?:\/\/\S+$/.test(cell) ? createLink(cell) : cell));
  };
  return createLongTable(caption, ["Name", ...shown.map((run) => run.label)], sorted.map(toRow), FIRST_MEMBERS);
}

const totalOf = (run) => addUp(run.ledger.map(([, seconds]) => seconds));
const formatShare = (run, seconds) => `${formatDuration(seconds)} · ${((100 * seconds) / totalOf(run)).toFixed(1)} %`;

function createLedgers(shown) {
  const names = [...new Set(shown.flatMap((run) => run.ledger.map(([name]) => name)))];
  const order = Object.keys(SHARES);
  names.sort((a, b) => (order.indexOf(a) + 100) % 100 - ((order.indexOf(b) + 100) % 100));
  const own = names.filter((name) => !order.includes(name));
  if (names.length === 0) return [createHint("There is no ledger. A run with a progress writes one.")];
  const paint = (element, name) => {
    element.style.background = order.includes(name) ? SHARES[name] : OWN_SHARES[own.indexOf(name) % OWN_SHARES.length];
    element.style.color = name === "step" ? "#fff" : "#000";
    return element;
  };
  const bars = shown.filter((run) => run.ledger.length > 0).map((run) => {
    const total = totalOf(run);
    const shares = run.ledger.slice().sort((a, b) => names.indexOf(a[0]) - names.indexOf(b[0])).map(([name, seconds]) => {
      const share = create("span", { title: `${name}: ${formatShare(run, seconds)}`, text: seconds / total > 0.08 ? name : "" });
      share.style.flexGrow = seconds / total;
      return paint(share, name);
    });
    return create("div.ledger", {}, create("span.name", { text: clip(run.label, 40) }), create("div.shares", { "aria-hidden": "true" }, ...shares));
  });
  const rows = names.map((name) => [create("span", {}, paint(create("span.dot"), name), name), ...shown.map((run) => {
    const found = run.ledger.find(([own]) => own === name);
    return { text: found ? formatShare(run, found[1]) : "–" };
  })]);
  return [...bars, ...createLongTable("Ledger", ["Use", ...shown.map((run) => run.label)], rows, FIRST_MEMBERS)];
}

/* Tables of one run need no column that names the run. */
const nameIfMany = (shown, name) => (shown.length > 1 ? [name] : []);

function createSummaries(shown) {
  const rows = shown.flatMap((run) => run.metrics.map((metric) => [
    ...nameIfMany(shown, run.label), metric.name, metric.logger, metric.last, metric.min, metric.max, metric.mean,
    { text: formatPoint(metric.best) },
    { text: formatCount(metric.count) }, { text: formatCount(metric.nonfinite) },
  ]));
  if (rows.length === 0) return [createHint("There is no summary yet. A run writes it at its end.")];
  return createLongTable("Summary", [...nameIfMany(shown, "Run"), "Metric", "Logger", "Last", "Least", "Greatest", "Mean", "Best", "Values", "Not finite"], rows, FIRST_MEMBERS);
}

function createAttempts(shown) {
  const rows = shown.flatMap((run) => run.attempts.map((attempt, at) => [
    ...nameIfMany(shown, run.label), { text: String(run.attempt_count - run.attempts.length + at + 1) },
    formatState(attempt.state === "running" ? run.state : attempt.state), formatTime(attempt.started), formatTime(attempt.ended), { text: formatCount(attempt.last_step) },
  ]));
  return createLongTable("Attempts", [...nameIfMany(shown, "Run"), "Attempt", "State", "Started", "Ended", "Last step"], rows, FIRST_MEMBERS);
}

function environmentOf(run) {
  const facts = flatten(run.environment);
  for (const [name, value] of [...facts]) if (value === "null" || value === "[]" || value === "") facts.delete(name);
  if (run.environment && Array.isArray(run.environment.argv)) facts.set("argv", run.environment.argv.join(" "));
  if (Number(facts.get("memory"))) facts.set("memory", (Number(facts.get("memory")) / 1e9).toFixed(1) + " GB");
  const urls = (run.wandb || []).map((url, at) => ["wandb" + (at ? " " + (at + 1) : ""), url]);
  for (const [name, value] of [["folder", run.dir], ["id", run.id], ["resumed from", run.resumed_from], ...urls]) if (value) facts.set(name, String(value));
  return facts;
}

/* A person's choice of what is open lasts. */
const sections = [
  { title: "Events", isOpen: true, fill: createEvents, isAbsent: (run) => !run.events.length },
  { title: "Ranks", isOpen: true, fill: createRanks, isAbsent: (run) => !run.ranks.length },
  { title: "Media", isOpen: true, fill: createMedia, isAbsent: (run) => !run.media.length },
  { title: "Ledger", isOpen: true, fill: createLedgers },
  { title: "Summary", isOpen: true, fill: createSummaries },
  { title: "Config", isOpen: true, fill: (shown) => createComparison("Config", shown, (run) => run.settings) },
  { title: "Environment", isOpen: false, fill: (shown) => createComparison("Environment", shown, environmentOf) },
  { title: "Attempts", isOpen: false, fill: createAttempts },
];

function drawSections() {
  const shown = selectedRuns().slice(0, MOST_COMPARED);
  const others = view.selected.size - shown.length;
  const hint = others > 0 ? `the first ${MOST_COMPARED} of ${view.selected.size} selected runs` : "";
  find("sections").replaceChildren(...(shown.length === 0 ? [] : sections.filter((section) => !section.isAbsent || !shown.every(section.isAbsent)).map((section) => createSection(section, hint, shown))));
}
