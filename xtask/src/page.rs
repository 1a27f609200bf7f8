//! The scripts, the style and the frame of the page, made smaller.
//!
//! The page is embedded in a library, so what makes its parts smaller is no part of a build: their
//! smaller form is kept beside them. This task makes that form, or checks it.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

/// Classic scripts in one order, because a browser loads no modules from `file://`.
const REPORT: &[&str] = &[
    "dom.js",
    "data.js",
    "state.js",
    "axis.js",
    "lines.js",
    "charts.js",
    "touch.js",
    "runs-table.js",
    "log-lines.js",
    "media.js",
    "events.js",
    "sections.js",
    "address.js",
    "main.js",
];
/// The addition for the page of a server.
const LIVE: &[&str] = &["live.js"];

/// Programs from npm that make scripts and styles smaller.
const TERSER: &str = "terser@5.51.4";
const ESBUILD: &str = "esbuild@0.28.2";

/// Names that the checks in a browser ask for.
const RESERVED: &str = "reserved=[live,log,runs,select,setZoom,view]";
/// Members that only the page's own scripts know, beside those of a browser, which keep their
/// names.
const OWN_MEMBERS: &str = concat!(
    "regex=/^((apply|choose|create|draw|fill|find|has|is|read|show|toggle)[A-Z]",
    "|(byName|clock|decoded|describe|detailEnd|detailOf|drawing|facts|found|lastStep|lastTime|loggers",
    "|logRun|means|measure|millis|outputs|parsed|pending|placeOf|places|pressedAt|setCurves|setHealth|settings|shown|smoothing",
    "|stepAt|stepOf|tableButton|throughput|throughputText|zoomToSelection)$)/"
);

/// Parts of uPlot that the page does not use: each from one mark up to another, and the text that
/// takes its place.
///
/// The page draws straight lines over one horizontal x in the time of the reader, writes the texts
/// of ticks itself, and shows neither a legend of uPlot nor its focus on a series.
const UNUSED: &[(&str, &str, &str)] = &[
    // Steps, bars and splines.
    (",l.stepped=", "}return en}();", ""),
    // The names of days and months, and other time zones.
    ("Zl=u.fmtDate||ne,", "Ql=", ""),
    (",le=De(Xl,", ",te=[],ie=", ""),
    ("l?Ll(e)?We(", "e||nt,", ""),
    ("Gl(i)&&!Gl(i[0])", "i||Be", ""),
    (",[[s,ce,", ",function(e){return(r,u", ""),
    (",ye,", "Me]", ","),
    (",Te,", "Ee]", ","),
    (",en.fmtDate=", ",en.sync=", ""),
    // The legend, and the focus.
    ("se=ie.show", ",re=", "se=!1"),
    ("Et=Tt.prox>=0,zt=Et&&St.one", ";let Dt", "Et=!1,zt=!1"),
    // Functions for scripts that use uPlot.
    ("en.assign=", "en.join=", ""),
];

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let is_check = match arguments {
        [] => false,
        [check] if check == "--check" => true,
        _ => bail!("unexpected arguments `{}`: the task takes --check", arguments.join(" ")),
    };
    let terser = [
        TERSER,
        "--compress",
        "passes=3,unsafe_arrows",
        "--ecma",
        "2022",
        "--mangle",
    ];
    // The page's own scripts know all of their names; uPlot's are known to others.
    let own = [&terser[..], &[RESERVED, "--toplevel", "--mangle-props", OWN_MEMBERS]].concat();
    let esbuild = [ESBUILD, "--loader=css", "--minify"];
    let shorten_script = |text: &str| filter(&join_declarations(text), &own);
    let shorten_plot = |text: &str| filter(&without_unused_parts(text)?, &terser);
    keep(is_check, "uplot.js", &["vendor/uPlot.iife.min.js"], &shorten_plot)?;
    keep(is_check, "report.js", REPORT, &shorten_script)?;
    keep(is_check, "live.js", &[REPORT, LIVE].concat(), &shorten_script)?;
    let shorten_style = |text: &str| filter(&without_unused_rules(text), &esbuild);
    keep(
        is_check,
        "style.css",
        &["vendor/uPlot.min.css", "style.css"],
        &shorten_style,
    )?;
    keep(is_check, "index.html", &["index.html"], &|text| Ok(join_lines(text)))
}

/// Makes constants variables: terser joins neighboring declarations of one kind.
fn join_declarations(text: &str) -> String {
    text.replace("const ", "let ")
}

/// Removes from uPlot what the page does not draw with, and sets the flags that it never changes;
/// terser then drops what only these have called.
fn without_unused_parts(text: &str) -> Result<String> {
    let mut kept = text.to_owned();
    for (begin, end, instead) in UNUSED {
        let cut = kept
            .split_once(begin)
            .and_then(|(before, after)| Some(format!("{before}{instead}{end}{}", after.split_once(end)?.1)));
        kept = cut.with_context(|| {
            format!("cannot shorten uPlot: its script has no `{begin}` before `{end}`; adapt both to its release")
        })?;
    }
    Ok(kept.replace("0==jl.ori", "!0").replace("1==jl.ori", "!1"))
}

/// Removes the rules for what uPlot does not show here: a legend, a title, and points at the
/// cursor. Its font is that of the page.
fn without_unused_rules(text: &str) -> String {
    let is_unused = |rule: &&str| {
        [
            ".u-legend",
            ".u-inline",
            ".u-series",
            ".u-title",
            ".u-cursor-pt",
            ".uplot {",
        ]
        .iter()
        .any(|name| rule.trim().starts_with(name))
    };
    let (vendored, own) = text.split_once('\n').unwrap_or(("", text));
    let rules = vendored.split_inclusive('}').filter(|rule| !is_unused(rule));
    format!("{}\n{own}", rules.collect::<String>())
}

/// Joins lines without their indents: between the elements of the page, white space shows nowhere.
fn join_lines(text: &str) -> String {
    text.lines().map(str::trim_start).collect::<String>() + "\n"
}

/// Writes the shorter form of the joined sources, or checks that this is what is there.
fn keep(is_check: bool, name: &str, sources: &[&str], shorten: &dyn Fn(&str) -> Result<String>) -> Result<()> {
    let folder = Path::new("runs/page");
    let path = folder.join("built").join(name);
    let sources = sources.iter().map(|source| {
        let source = folder.join(source);
        fs::read_to_string(&source).with_context(|| format!("cannot read {}", source.display()))
    });
    let built = shorten(&sources.collect::<Result<Vec<_>>>()?.join("\n"))?;
    if !is_check {
        fs::write(&path, &built).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    ensure!(
        kept == built,
        "{} is not made of its sources: run `cargo xtask page`",
        path.display()
    );
    println!("{}: {} bytes", path.display(), built.len());
    Ok(())
}

/// Returns a text as a program from npm writes it.
fn filter(text: &str, program: &[&str]) -> Result<String> {
    let mut child = Command::new("npx")
        .arg("--yes")
        .args(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start npx: install Node.js with npm")?;
    // The programs read all before they write, so no pipe is full.
    child
        .stdin
        .take()
        .context("npx has no input")?
        .write_all(text.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(
        output.status.success(),
        "cannot make the page smaller: {} ended with {}",
        program[0],
        output.status
    );
    Ok(String::from_utf8(output.stdout)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uplot_loses_what_the_page_does_not_draw_with() {
        let whole: String = UNUSED
            .iter()
            .map(|(begin, end, _)| format!("{begin}unused{end};"))
            .collect();
        let kept: String = UNUSED
            .iter()
            .map(|(_, end, instead)| format!("{instead}{end};"))
            .collect();
        assert_eq!(without_unused_parts(&whole).unwrap(), kept);
        let shipped = include_str!("../../runs/page/vendor/uPlot.iife.min.js");
        assert!(without_unused_parts(shipped).unwrap().len() < shipped.len() - 4000);
        let error = without_unused_parts("var uPlot=f(){return en}();")
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("cannot shorten uPlot: its script has no `,l.stepped=`"),
            "{error}"
        );
    }
}
