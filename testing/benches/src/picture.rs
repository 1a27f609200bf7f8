//! A small picture of growing costs, as SVG.

use std::fmt::Write as _;

/// A part of the picture with an axis of its own.
pub(crate) struct Panel {
    pub(crate) title: &'static str,
    /// Points of a number and a ratio, by line. The numbers are at least 1 and the same in each
    /// line.
    pub(crate) lines: [Vec<(f64, f64)>; 2],
}

const WIDTH: f64 = 210.0;
const HEIGHT: f64 = 150.0;
/// Around the drawing of each panel; the left one has the numbers of the axis.
const LEFT: f64 = 34.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 34.0;
/// Both are readable on white and on black.
const COLORS: [&str; 2] = ["#2f81f7", "#e8590c"];
const GRAY: &str = "#808890";

/// Draws the panels side by side: numbers on a logarithmic axis, ratios on a common linear one that
/// begins at 0.
pub(crate) fn draw(title: &str, legend: [&str; 2], panels: &[Panel]) -> String {
    let (width, height) = ((LEFT + WIDTH) * panels.len() as f64 + 10.0, TOP + HEIGHT + BOTTOM);
    let ratios = panels.iter().flat_map(|panel| panel.lines.iter().flatten());
    let top = ratios.map(|(_, ratio)| *ratio).fold(2.0, f64::max).ceil();
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"11\" fill=\"{GRAY}\">\n<title>{title}</title>\n"
    );
    for (at, (name, color)) in legend.iter().zip(COLORS).enumerate() {
        text(
            &mut svg,
            (LEFT + at as f64 * 160.0, 12.0),
            "start",
            &format!("● {name}"),
            color,
        );
    }
    for (at, panel) in panels.iter().enumerate() {
        panel_at(&mut svg, panel, (LEFT + WIDTH) * at as f64 + LEFT, top);
    }
    svg.push_str("</svg>\n");
    svg
}

fn panel_at(svg: &mut String, panel: &Panel, left: f64, top: f64) {
    let numbers: Vec<f64> = panel.lines[0].iter().map(|(number, _)| *number).collect();
    let first = numbers.first().copied().unwrap_or(1.0).log10();
    let span = (numbers.last().copied().unwrap_or(1.0).log10() - first).max(f64::MIN_POSITIVE);
    let inner = WIDTH - 20.0;
    let x = |number: f64| left + 6.0 + (number.log10() - first) / span * inner;
    let y = |ratio: f64| TOP + HEIGHT * (1.0 - ratio / top);
    text(svg, (left, TOP - 10.0), "start", panel.title, GRAY);
    // Three or four lines, whatever the range.
    let step = (top / 4.0).ceil();
    let mut ratio = 0.0;
    while ratio <= top {
        let (right, height) = (left + WIDTH - 8.0, y(ratio));
        _ = writeln!(
            svg,
            "<path d=\"M{left:.0} {height:.1}H{right:.0}\" stroke=\"{GRAY}\" stroke-opacity=\".3\"/>"
        );
        text(svg, (left - 4.0, height + 4.0), "end", &format!("{ratio}×"), GRAY);
        ratio += step;
    }
    for number in &numbers {
        text(svg, (x(*number), TOP + HEIGHT + 16.0), "middle", &short(*number), GRAY);
    }
    for (line, color) in panel.lines.iter().zip(COLORS) {
        let points = line.iter().filter(|(_, ratio)| ratio.is_finite());
        let points: Vec<_> = points
            .map(|(number, ratio)| format!("{:.1},{:.1}", x(*number), y(*ratio)))
            .collect();
        _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>",
            points.join(" ")
        );
    }
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, words: &str, color: &str) {
    _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{color}\">{words}</text>"
    );
}

/// A number as short as an axis needs: `10k`, `1M`.
fn short(number: f64) -> String {
    match number {
        _ if number >= 1e6 => format!("{}M", number / 1e6),
        _ if number >= 1e3 => format!("{}k", number / 1e3),
        _ => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_from_the_first_number_to_the_last_and_up_with_its_ratio() {
        let line = |ratio| vec![(1.0, 1.0), (10.0, 1.0), (100.0, ratio)];
        let panel = Panel {
            title: "threads",
            lines: [line(1.0), line(4.0)],
        };
        let svg = draw("cost", ["calls", "CPU"], &[panel]);
        // The axis ends at 4.
        assert!(svg.contains("points=\"40.0,152.5 135.0,152.5 230.0,40.0\""), "{svg}");
        assert!(svg.contains("points=\"40.0,152.5 135.0,152.5 230.0,152.5\""), "{svg}");
        assert!(svg.contains(">4×</text>"), "{svg}");
    }

    #[test]
    fn large_numbers_are_short() {
        assert_eq!([1.0, 5000.0, 1e6].map(short), ["1", "5k", "1M"]);
    }
}
