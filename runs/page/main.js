/* Puts the page together: the header, the controls, and what follows from a change of the view. */

function drawHeader() {
  const title = unmask(clip(runs.length === 1 ? runs[0].label : runs.length === 0 ? "No runs" : plural(runs.length, "run"), 120));
  find("title").textContent = title;
  document.title = title + " · logcore";
  const parts = [];
  if (runs.length === 1) {
    const [run] = runs;
    if (run.dir && run.dir !== run.label) parts.push(run.dir);
    else if (run.id) parts.push(run.id);
    if (run.start > 0) parts.push("started " + formatTime(run.start));
  } else {
    for (const [state, same] of groupBy(runs, (run) => run.state)) parts.push(`${formatCount(same.length)} ${state}`);
  }
  find("subtitle").textContent = unmask(clip(parts.join(" · "), 300));
  const notes = [...data.notes];
  if (data.widest > 1) notes.unshift(`All values would take more than 8 MB. Long curves show the first, last, least and greatest of up to ${formatCount(data.widest)} values each.`);
  find("notes").replaceChildren(...notes.map((text) => create("li", { text })));
  find("notes").hidden = notes.length === 0;
  find("footer").textContent = `Written ${formatTime(data.written)} by logcore ${data.version}. Drawn with uPlot. The page sends nothing.`;
}

/* Hides the parts of the page that the runs have no use for. */
function hideParts() {
  find("runs").hidden = runs.length < 2;
  find("log").hidden = find("tools").hidden = runs.length === 0;
  find("ranks-label").hidden = !runs.some((run) => run.curves.some((curve) => curve.rank > 0));
}

function drawThemeSwitch() {
  find("theme").replaceChildren(...["auto", "light", "dark"].map((theme) => create("button", { text: theme, "aria-pressed": String(view.theme === theme), click: () => setTheme(theme) })));
}

function searchMetrics(text) {
  let error = "";
  try {
    change("search", { search: text ? new RegExp(text, "i") : null });
  } catch (problem) {
    error = `cannot search for ${clip(text, 60)}: ${problem.message}. Complete the expression.`;
  }
  find("search-error").textContent = error;
  find("search-error").hidden = !error;
  find("search").setAttribute("aria-invalid", Boolean(error));
}

function remakeCharts() {
  for (const chart of [...live]) chart.remake();
}

/* Takes over what the controls say. */
function takeControls() {
  const smoothing = Number(find("smooth").value);
  find("smooth-value").textContent = smoothing;
  Object.assign(view, { x: find("x-axis").value, group: find("group").value, isLogarithmic: find("log-y").checked, smoothing, hasAllRanks: find("ranks").checked });
  table.filter = find("runs-filter").value;
  log.least = Number(find("log-level").value);
  log.search = find("log-search").value;
  searchMetrics(find("search").value);
}

function startControls() {
  on("search", "input", debounce(150, () => searchMetrics(find("search").value)));
  on("x-axis", "change", (event) => change("x", { x: event.target.value, zoom: null }));
  on("group", "change", (event) => change("group", { group: event.target.value }));
  on("log-y", "change", (event) => change("form", { isLogarithmic: event.target.checked }));
  on("smooth", "input", debounce(60, () => {
    const smoothing = Number(find("smooth").value);
    find("smooth-value").textContent = smoothing;
    change("form", { smoothing });
  }));
  on("ranks", "change", (event) => change("form", { hasAllRanks: event.target.checked }));
  on("zoom-reset", "click", () => setZoom(null));
  on("runs-filter", "input", debounce(120, () => {
    table.filter = find("runs-filter").value;
    table.shown = FIRST_RUNS;
    drawRunsTable();
  }));
  on("runs-none", "click", () => select(new Set()));
  on("runs-all", "click", () => select(new Set(listRuns().map((run) => run.index))));
  on("log-level", "change", (event) => {
    log.least = Number(event.target.value);
    drawLines();
  });
  on("log-search", "input", debounce(120, () => {
    log.search = find("log-search").value;
    drawLines();
  }));
  on("log-run", "change", (event) => change("log", { logRun: runs[Number(event.target.value)] }));
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !event.target.matches("[type=search], select") && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      find("search").focus();
    }
  });
  prefersDark.addEventListener("change", () => setTheme(view.theme));
}

/* Half of a page of A4. */
const PAPER_WIDTH = 320;

/* Paper is light, and has all charts that are listed. */
function startPrinting() {
  let theme = "auto";
  addEventListener("beforeprint", () => {
    theme = view.theme;
    document.body.classList.add("is-printing");
    setTheme("light");
    charts.slice(0, 100).filter((chart) => chart.element.closest("details").open).forEach((chart) => {
      chart.make();
      if (chart.plot) chart.plot.setSize({ width: PAPER_WIDTH, height: CHART_HEIGHT });
    });
  });
  addEventListener("afterprint", () => {
    document.body.classList.remove("is-printing");
    setTheme(theme);
    drawGroups();
  });
}

listen(["selection"], () => {
  drawGroups();
  drawSections();
});
listen(["selection", "theme", "group"], () => runs.length > 1 && drawRunsTable());
listen(["search"], drawGroups);
listen(["form", "group", "x", "theme"], remakeCharts);
listen(["zoom"], () => [...live].forEach((chart) => chart.zoom()));
listen(["zoom", "x", "selection"], () => (find("zoom-reset").hidden = view.zoom === null));
listen(["theme"], drawThemeSwitch);
listen(["selection", "log"], drawLines);
listen(["moment"], () => {
  live.forEach((chart) => chart.plot && chart.plot.redraw(false, false));
  if (view.moment?.run === log.run) showMomentInLines();
  else drawLines();
});

drawHeader();
startControls();
startPrinting();
hideParts();
drawOverview();
drawAxes();
drawGroupings();
readAddress();
startAddress();
