/* Events: what the health of a run had to say. They are marks in the curves, and a list that leads there. */

/* The worst first. */
const EVENT_LEVELS = ["error", "warn", "info"];
/* Names of colors. */
const EVENT_COLORS = { info: "--muted", warn: "--warn", error: "--bad" };
const FIRST_EVENTS = 50;

/* Number of events that a person has asked for. */
let askedEvents = FIRST_EVENTS;

/* Where and when an event was. */
function formatEvent(run, event) {
  const hasRanks = run.world_size > 1 || event.rank > 0;
  return joinParts(isKnown(event.step) && "step " + formatCount(event.step), formatTime(event.time), hasRanks && "rank " + event.rank);
}

const worstOf = (run) => "is-" + EVENT_LEVELS.find((level) => run.events.some((event) => event.level === level));

/* A list, the newest first. */
function createEvents(shown) {
  const all = shown.flatMap((run) => run.events.map((event) => ({ run, event }))).sort((a, b) => b.event.time - a.event.time);
  const list = create("ol.events");
  const add = () => {
    list.append(...all.slice(list.childElementCount, askedEvents).map(({ run, event }) => createEvent(run, event, nameIfMany(shown, clip(run.label, 40)))));
    more.hidden = all.length <= askedEvents;
  };
  const more = create("button.more", { text: "Show more", click: () => add((askedEvents += FIRST_EVENTS)) });
  add();
  const earlier = addUp(shown.map((run) => run.earlier_events));
  return [list, more, create("p.muted", { text: `${plural(earlier, "earlier event")} in events.jsonl.`, hidden: earlier === 0 })];
}

function createEvent(run, event, names) {
  return create("li", {}, create("button", { class: "is-" + event.level, click: () => chooseEvent(run, event) },
    create("span.level", { text: event.level.toUpperCase() }),
    create("span.clock", { text: joinParts(...names, formatEvent(run, event)) }),
    create("span.message", { text: clip(event.text, 600) }),
    event.incident && create("span.clock", { text: "incidents/" + event.incident })));
}

/* Brings the moment of an event into the curves, and its chart into view. */
function chooseEvent(run, event) {
  const step = run.stepOf(event);
  const x = run.clock && xOfMoment(run.clock, event.time, step);
  if (view.zoom && !(x >= view.zoom[0] && x <= view.zoom[1])) setZoom(null);
  setMoment(run, event.time, step);
  const chart = event.metric && charts.find(({ name, element }) => run.findEvents(name).includes(event) && element.offsetParent);
  (chart ? chart.element : find("charts")).scrollIntoView({ block: chart ? "center" : "start" });
}

function createRanks(shown) {
  const rows = shown.flatMap((run) => run.ranks.map((state) => [
    ...nameIfMany(shown, run.label), { text: String(state.rank) }, { text: formatCount(state.step) },
    { text: formatDuration(state.step_seconds) }, { text: isNumber(state.data_share) ? (100 * state.data_share).toFixed(1) + " %" : "–" },
    state.phase, formatTime(state.time),
  ]));
  return createLongTable("Ranks", [...nameIfMany(shown, "Run"), "Rank", "Step", "Step time", "Waits for data", "Phase", "Last sign of life"], rows, FIRST_MEMBERS);
}
